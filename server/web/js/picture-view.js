import { fromTemplate, find, show } from "./dom.js";

const ENLARGED = 4; // at most, and up to ENLARGED_TO pixels: a picture of 64 pixels is a stamp on most screens
const ENLARGED_TO = 320;

/** A picture from its place in the queue on. Its frame has the final size from the start. */
export class PictureView {
  #frame;
  #number;
  #context;

  /**
   * @param number of the picture in its answer, from 1
   * @param size width and height in pixels, as far as the request tells
   * @param context what the picture was drawn for, in words
   */
  constructor(number, size, context) {
    this.element = fromTemplate("picture-template");
    this.#frame = find(".frame", this.element);
    this.#number = number;
    this.#context = context;
    this.#resize(...size);
    find(".title", this.element).textContent = `Picture ${number}`;
    find(".ring", this.element).setAttribute("aria-label", `Drawing picture ${number}`);
  }

  show(picture) {
    if (picture.state === "completed" && this.element.dataset.state === "completed") return;
    this.element.dataset.state = picture.state;
    find(".status", this.element).textContent = statusOf(picture);
    this.#showProgress(picture);
    if (picture.preview) this.#showImage(".preview", picture.preview);
    if (picture.state === "completed") this.#showFinal(picture.image);
  }

  #showProgress({ state, ahead, step, steps }) {
    const ring = find(".ring", this.element);
    if (state === "queued") {
      ring.removeAttribute("aria-valuenow");
      ring.removeAttribute("aria-valuetext");
      find("b", ring).textContent = ahead || "";
    }
    if (state !== "drawing") return;
    const percent = Math.round((100 * step) / steps);
    this.#frame.style.setProperty("--progress", step / steps);
    ring.setAttribute("aria-valuenow", percent);
    ring.setAttribute("aria-valuetext", `step ${step} of ${steps}`);
    find("b", ring).textContent = percent;
  }

  #showFinal(image) {
    const final = this.#showImage(".final", image);
    final.alt = `Picture ${this.#number}, drawn for: ${this.#context}`;
    final.width = image.width;
    final.height = image.height;
    this.#resize(image.width, image.height);
    const link = find(".download", this.element);
    link.href = image.url;
    link.download = `picture-${this.#number}.${image.format}`;
    link.setAttribute("aria-label", `Download picture ${this.#number}`);
    show(link);
  }

  #showImage(selector, { url }) {
    const image = find(selector, this.element);
    if (image.src !== url) image.src = url;
    show(image);
    return image;
  }

  #resize(width, height) {
    this.#frame.style.setProperty("--ratio", `${width} / ${height}`);
    this.#frame.style.setProperty("--width", `${shownWidth(width)}px`);
  }
}

export const shownWidth = (width) => Math.max(width, Math.min(ENLARGED * width, ENLARGED_TO));

function statusOf({ state, ahead, eta, step, steps, image, reason }) {
  switch (state) {
    case "queued": {
      const place = ahead ? `${ahead} ahead in the queue` : "about to be drawn";
      return eta ? `${place}, ready in about ${Math.max(1, Math.round(eta))} s` : place;
    }
    case "drawing":
      return `step ${step} of ${steps}`;
    case "completed":
      return `${image.width} × ${image.height}, seed ${image.seed}`;
    case "failed":
      return `could not be drawn: ${reason}`;
  }
}
