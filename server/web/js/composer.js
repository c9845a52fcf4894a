import { Attachments } from "./attachments.js";
import { find, show } from "./dom.js";

/** Where a prompt is written, sent, and its answer stopped. */
export class Composer {
  #form = find("#composer");
  #prompt = find("#prompt");
  #send = find("#send");
  #stop = find("#stop");
  #note = find("#note");
  #onSend;
  #ready = false;
  #running = false;

  /**
   * @param onSend called with `{text, pictures}`; false leaves the prompt as it is
   * @param onStop called when the answer is to end
   */
  constructor(onSend, onStop) {
    this.#onSend = onSend;
    this.attachments = new Attachments(find("#attached"), () => this.#update(), (text) => this.note(text));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#prompt.addEventListener("input", () => {
      this.note("");
      this.#update();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", onStop);
    this.#takeFiles();
    if (/Mac|iPhone|iPad/.test(navigator.platform)) find("#send-keys kbd").textContent = "⌘";
  }

  /** Whether the server takes prompts. */
  set ready(ready) {
    this.#ready = ready;
    this.#update();
  }

  /** Whether an answer is being made, which can be stopped; the next prompt can be written meanwhile. */
  set running(running) {
    const focused = document.activeElement === this.#send || document.activeElement === this.#stop;
    this.#running = running;
    this.#update();
    if (focused) this.focus();
  }

  focus() {
    this.#prompt.focus({ preventScroll: true });
  }

  /** Tells the reader something about what was just done. It is gone with the next key. */
  note(text) {
    this.#note.textContent = text;
  }

  #submit() {
    const text = this.#prompt.value.trim();
    const { pictures } = this.attachments;
    if (!(text || pictures.length) || !this.#onSend({ text, pictures })) return;
    this.#prompt.value = "";
    this.note("");
    this.attachments.clear();
  }

  #update() {
    if (!CSS.supports("field-sizing", "content")) this.#fit();
    this.#send.disabled = !this.#ready || !(this.#prompt.value.trim() || this.attachments.pictures.length);
    show(this.#send, !this.#running);
    show(this.#stop, this.#running);
    show(find("#send-keys"), !this.#running);
    show(find("#stop-keys"), this.#running);
  }

  /** Makes the field as high as its text, in browsers whose style sheets cannot. */
  #fit() {
    this.#prompt.style.height = "auto";
    this.#prompt.style.height = `${this.#prompt.scrollHeight}px`;
  }

  #takeFiles() {
    const files = find("#files");
    find("#attach").addEventListener("click", () => files.click());
    files.addEventListener("change", async () => {
      await this.attachments.add(files.files);
      files.value = "";
    });
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    const target = find("#dropping");
    const hasFiles = (event) => event.dataTransfer.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(target);
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) show(target, false);
    });
    document.addEventListener("drop", (event) => {
      show(target, false);
      this.#take(event, event.dataTransfer);
    });
  }

  #take(event, transfer) {
    if (!transfer.files.length) return;
    event.preventDefault();
    this.attachments.add(transfer.files);
    this.focus();
  }
}
