import { find, show } from "./dom.js";
import { apiKey, keepKey } from "./key.js";

/** Asks for an API key, on servers that do. A button opens it again, to give one later or another one. */
export class KeyDialog {
  #dialog = find("#key");
  #button = find("#open-key");
  #field = find("#key-field");
  #note = find("#key-note");
  #waiting = [];

  constructor() {
    show(this.#button, apiKey() !== null);
    this.#button.addEventListener("click", () => this.#open(""));
    find("#close-key").addEventListener("click", () => this.#dialog.close());
    find("#key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take(this.#field.value.trim());
    });
    this.#dialog.addEventListener("close", () => (this.#field.value = ""));
  }

  /** Opens, and resolves when a key was given, however much later. */
  ask(refusal) {
    this.#open(apiKey() === null ? "" : refusal); // nobody has been refused who had none to give
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #open(note) {
    show(this.#button);
    this.#note.textContent = note;
    this.#field.setAttribute("aria-invalid", String(note !== ""));
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#field.focus();
  }

  #take(key) {
    keepKey(key);
    this.#dialog.close();
    this.#waiting.splice(0).forEach((resolve) => resolve());
  }
}
