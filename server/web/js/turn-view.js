import { isRunning, pictureNumber } from "./answer.js";
import { find, fromTemplate, show } from "./dom.js";
import { PictureView } from "./picture-view.js";
import { TextView } from "./text-view.js";

/** One turn on the page. It shows a turn as it is; called again, only what has changed since. */
export class TurnView {
  #parts = [];

  /** @param actions what its buttons do: `{retry, code}` */
  constructor({ prompt }, actions) {
    this.element = fromTemplate("turn-template");
    find("h2", this.element).textContent = prompt.text || count(prompt.pictures.length, "picture");
    const shown = find(".shown", this.element);
    prompt.pictures.forEach(({ url, name }) => {
      const image = document.createElement("img");
      image.src = url;
      image.alt = name;
      shown.appendChild(document.createElement("li")).append(image);
    });
    show(shown, prompt.pictures.length > 0);
    for (const button of this.element.querySelectorAll("[data-action]")) {
      button.addEventListener("click", actions[button.dataset.action]);
    }
  }

  /** @param trouble what keeps the answer from going on just now, in words */
  show(turn, trouble = null) {
    const { answer } = turn;
    answer.parts.forEach((part, index) => this.#partView(turn, index).show(part));
    find(".answer", this.element).setAttribute("aria-busy", String(isRunning(answer)));
    const state = find(".state", this.element);
    state.textContent = trouble ?? stateOf(answer);
    state.dataset.kind = answer.status;
    show(state, state.textContent !== "");
    find(".facts", this.element).textContent = factsOf(answer);
  }

  /** Leads a reader by keyboard or by ear to the turn. */
  focus() {
    find("h2", this.element).focus({ preventScroll: true });
  }

  /** Offers another try, which only the last turn of a conversation can have. */
  offerRetry(offered) {
    show(find("[data-action=retry]", this.element), offered);
  }

  #partView(turn, index) {
    return (this.#parts[index] ??= this.#addPart(turn, index));
  }

  #addPart({ prompt, frame, answer }, index) {
    const isText = answer.parts[index].type === "text";
    const view = isText
      ? new TextView()
      : new PictureView(pictureNumber(answer, index), frame, contextOf(answer.parts[index - 1], prompt));
    const next = this.#parts.find((part, i) => part && i > index);
    find(".parts", this.element).insertBefore(view.element, next?.element ?? null);
    return view;
  }
}

/** What a picture was drawn for: the sentence before it, or else the prompt. */
export function contextOf(before, prompt) {
  const sentences = before?.type === "text" ? before.text.trim().split(/(?<=[.!?…:])\s+/) : [];
  return sentences.at(-1) || prompt.text;
}

function stateOf({ status, error, finishReason, usage }) {
  switch (status) {
    case "failed":
    case "lost":
      return sentence(error.message);
    case "stopped":
      return "You stopped this answer.";
    case "completed":
      if (finishReason !== "length") return "";
      return usage.length_limit === "context"
        ? "The answer ended here because the model’s context is full."
        : "The answer ended here because it has as many tokens as you allowed.";
    default:
      return "";
  }
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`).replace(/^[a-z](?=[a-z]* )/, (c) => c.toUpperCase());

export function factsOf({ model, usage }) {
  if (!usage) return "";
  return [
    model,
    count(usage.completion_tokens, "token"),
    ...(usage.images ? [count(usage.images, "picture"), count(usage.denoising_steps, "step")] : []),
  ].join("\u2002·\u2002");
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
