/** A stretch of text. Spaces at its ends, which mostly lead to and from pictures, are not shown. */
export class TextView {
  constructor() {
    this.element = document.createElement("p");
    this.element.className = "text";
    this.#text = this.element.appendChild(new Text());
  }

  #text;
  #taken = 0;
  #held = "";

  show({ text }) {
    const more = this.#held + text.slice(this.#taken);
    this.#taken = text.length;
    const shown = this.#text.length ? more.trimEnd() : more.trim();
    this.#held = shown || this.#text.length ? more.slice(more.trimEnd().length) : "";
    this.#text.appendData(shown);
  }
}
