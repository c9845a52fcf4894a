import { pictureNumber } from "./answer.js";

const CHUNK = 80; // characters after which a sentence's end is read out
const KEPT = 8;

/** Tells screen readers what happens, in whole sentences: words that come one by one cannot be listened to. */
export class Announcer {
  #region;
  #unsaid = "";
  #begun = new Set();

  constructor(region) {
    this.#region = region;
  }

  say(text) {
    const line = document.createElement("p");
    line.textContent = text;
    this.#region.append(line);
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild.remove();
  }

  hear(event, answer) {
    switch (event.type) {
      case "text.delta":
        this.#hearText(event.text);
        break;
      case "image.queued":
        this.#begin(`Picture ${pictureNumber(answer, event.part)}`, `${answer.id} ${event.part}`);
        break;
      case "image.completed":
        this.say(`Picture ${pictureNumber(answer, event.part)} is drawn.`);
        break;
      case "image.failed":
        this.say(`Picture ${pictureNumber(answer, event.part)} could not be drawn: ${event.error.message}`);
        break;
      case "document.completed":
        this.#finishText();
        this.say("The answer is complete.");
        break;
      case "document.failed":
        this.#finishText();
        this.say(answer.status === "stopped" ? "The answer was stopped." : `The answer failed: ${event.error.message}`);
        break;
    }
  }

  /** Once for each picture: its place in the queue may be told many times. */
  #begin(picture, key) {
    if (this.#begun.has(key)) return;
    this.#begun.add(key);
    this.#finishText();
    this.say(`${picture} is on its way.`);
  }

  #hearText(text) {
    this.#unsaid += text;
    const end = this.#unsaid.search(/[.!?…](?=\s\S*$)/);
    if (end < CHUNK) return;
    this.say(this.#unsaid.slice(0, end + 1).trim());
    this.#unsaid = this.#unsaid.slice(end + 1);
  }

  #finishText() {
    if (this.#unsaid.trim()) this.say(this.#unsaid.trim());
    this.#unsaid = "";
  }
}
