import { find, fromTemplate, show } from "./dom.js";

const READABLE = new Set(["image/png", "image/jpeg", "image/webp", "image/gif"]);

/** The pictures of the prompt that is being written: chosen, pasted or dropped. */
export class Attachments {
  #list;
  #onChange;
  #note;
  pictures = [];

  /**
   * @param list shows them
   * @param onChange called when there are more or fewer
   * @param note tells the reader something
   */
  constructor(list, onChange, note) {
    this.#list = list;
    this.#onChange = onChange;
    this.#note = note;
  }

  async add(files) {
    const readable = [...files].filter(({ type }) => READABLE.has(type));
    const others = [...files].filter(({ type }) => !READABLE.has(type)).map(({ name }) => name);
    const pictures = await Promise.all(readable.map(async (file) => ({ url: await dataURL(file), name: file.name })));
    this.pictures.push(...pictures);
    this.#changed();
    this.#note(others.length ? `Not a PNG, JPEG, WebP or GIF: ${others.join(", ")}` : "");
  }

  clear() {
    this.pictures = [];
    this.#changed();
  }

  #changed() {
    this.#list.replaceChildren(...this.pictures.map((picture) => this.#item(picture)));
    show(this.#list, this.pictures.length > 0);
    this.#onChange();
  }

  #item(picture) {
    const item = fromTemplate("attached-template");
    Object.assign(find("img", item), { src: picture.url, alt: picture.name });
    const remove = find("button", item);
    remove.setAttribute("aria-label", `Remove ${picture.name}`);
    remove.addEventListener("click", () => {
      this.pictures = this.pictures.filter((other) => other !== picture);
      this.#changed();
    });
    return item;
  }
}

function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
