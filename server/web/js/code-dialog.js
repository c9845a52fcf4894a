import { curl, KEY_VARIABLE, python, shortened } from "./code.js";
import { find } from "./dom.js";
import { apiKey } from "./key.js";

const LANGUAGES = { curl, python };

/** Shows a request as code, to be copied. */
export class CodeDialog {
  #dialog = find("#code");
  #note = find("#code-note");
  #body = null;

  constructor() {
    find("#close-code").addEventListener("click", () => this.#dialog.close());
    find("#languages").addEventListener("change", () => this.#show());
    find("#copy-code").addEventListener("click", () => this.#copy());
  }

  open(body) {
    this.#body = body;
    this.#show();
    this.#dialog.showModal();
  }

  get #code() {
    return LANGUAGES[find("input:checked", this.#dialog).value](this.#body);
  }

  #show() {
    const code = shortened(this.#code);
    find("#code-text").textContent = code;
    const pictures = code === this.#code ? "" : "The copy has the pictures in full.";
    const key = apiKey() === null ? "" : `It finds your key in ${KEY_VARIABLE}.`;
    this.#note.textContent = `${pictures} ${key}`.trim();
  }

  async #copy() {
    await copy(this.#code, this.#dialog);
    this.#note.textContent = "Copied.";
  }
}

async function copy(text, dialog) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Plain http has no clipboard but this one.
  const field = dialog.appendChild(document.createElement("textarea"));
  field.className = "unseen";
  field.value = text;
  field.select();
  document.execCommand("copy");
  field.remove();
}
