import { address } from "./api.js";
import { find, show } from "./dom.js";

const KEY = `dreamserve.parameters ${address("")}`;
const WIDE = matchMedia("(min-width: 64rem)");
const SCHEDULERS = { ddpm: "DDPM", ddim: "DDIM", dpmpp_2m: "DPM++ 2M" };

/** The side panel: beside the page where there is room, over it where there is not. */
export class Parameters {
  #panel = find("#parameters");
  #form = find("#parameters-form");
  #button = find("#open-parameters");
  #size = [512, 512];

  constructor() {
    this.#restore();
    this.#form.addEventListener("input", () => this.#changed());
    this.#form.addEventListener("reset", () => setTimeout(() => this.#changed())); // the fields are reset after this
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#button.addEventListener("click", () => (this.#panel.open ? this.close() : this.open()));
    find("#close-parameters").addEventListener("click", () => this.close());
    this.#panel.addEventListener("close", () => this.#button.setAttribute("aria-expanded", "false"));
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation(); // on the page it would stop the answer
      this.close();
    });
    WIDE.addEventListener("change", () => {
      if (!this.#panel.open) return;
      this.#panel.close();
      this.open();
    });
  }

  open() {
    if (WIDE.matches) this.#panel.show();
    else this.#panel.showModal();
    this.#button.setAttribute("aria-expanded", "true");
  }

  close() {
    this.#panel.close();
    this.#button.focus();
  }

  /** Shows in the empty fields what the model takes by itself. */
  showDefaults({ sampling, images }) {
    this.#size = images.size.split("x").map(Number);
    const { elements } = this.#form;
    elements.temperature.placeholder = sampling.temperature;
    elements.top_p.placeholder = sampling.top_p;
    elements["images.max"].placeholder = elements["images.max"].max = images.max;
    elements["images.steps"].placeholder = images.steps;
    elements["images.guidance_scale"].placeholder = images.guidance_scale;
    elements["images.scheduler"].options[0].textContent = `The model’s: ${SCHEDULERS[images.scheduler]}`;
    [elements.width, elements.height].forEach((field, i) => {
      field.placeholder = this.#size[i];
      field.min = field.step = images.size_multiple;
    });
  }

  /** Whether all fields can be sent. If not, the reader is led to the first that cannot. */
  check() {
    if (this.#form.checkValidity()) return true;
    if (!this.#panel.open) this.open();
    return this.#form.reportValidity();
  }

  /** Width and height of the pictures in pixels. */
  get frame() {
    const { width, height } = this.#form.elements;
    return [Number(width.value) || this.#size[0], Number(height.value) || this.#size[1]];
  }

  /** What was chosen, as fields of a request. */
  get value() {
    const { width, height } = this.#form.elements;
    const chosen = {};
    for (const { name, value, type } of this.#form.elements) {
      if (!name || value === "" || name === "width" || name === "height") continue;
      const [outer, inner] = name.split(".");
      const taken = type === "number" || name === "images.previews" ? Number(value) : value;
      if (inner) (chosen[outer] ??= {})[inner] = taken;
      else chosen[outer] = taken;
    }
    if (width.value || height.value) chosen.images.size = this.frame.join("x");
    return chosen;
  }

  #changed() {
    const changed = [...this.#form.elements].filter((field) => field.name && field.value !== defaultOf(field));
    const values = Object.fromEntries(changed.map(({ name, value }) => [name, value]));
    try {
      localStorage.setItem(KEY, JSON.stringify(values));
    } catch {
      // The browser keeps nothing for this site: they hold until the page is left.
    }
    this.#showCount(changed.length);
  }

  #restore() {
    let values = [];
    try {
      values = Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {});
    } catch {
      // As above, or what is kept is of another version: the defaults do.
    }
    for (const [name, value] of values) {
      if (this.#form.elements[name]) this.#form.elements[name].value = value;
    }
    this.#showCount(values.length);
  }

  #showCount(count) {
    const shown = find("#parameters-count");
    shown.textContent = count;
    show(shown, count > 0);
    this.#button.setAttribute("aria-label", count ? `Parameters, ${count} changed` : "Parameters");
  }
}

function defaultOf(field) {
  if (field.type !== "select-one") return field.defaultValue;
  return ([...field.options].find((option) => option.defaultSelected) ?? field.options[0]).value;
}
