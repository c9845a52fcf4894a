import { begin, cancel, RefusedError } from "./api.js";
import { apply, end, isRunning } from "./answer.js";
import { requestBody } from "./conversation.js";
import { eventsOf } from "./following.js";

const GONE = new Set([404, 410]);

/** One answer while it is made. The server stores it, so that it goes on whatever becomes of this page. */
export class Answering {
  #turn;
  #earlier;
  #onChange;
  #beginning = Promise.resolve(null);

  /**
   * @param turn whose answer is to be made, or gone on with if it has an id
   * @param earlier turns before it
   * @param onChange called after every change: with the event, if one made it, and with what is in the way, if
   *   something is
   */
  constructor(turn, earlier, onChange) {
    this.#turn = turn;
    this.#earlier = earlier;
    this.#onChange = onChange;
  }

  /** Resolves when the answer has ended, well or not. */
  async run() {
    const { answer } = this.#turn;
    try {
      if (!answer.id) this.#beginning = this.#begin();
      for await (const event of eventsOf(answer, await this.#beginning, () => this.#onChange(null, "Connection lost. Trying again …"))) {
        apply(answer, event);
        this.#onChange(event);
      }
    } catch (error) {
      const gone = answer.id && error instanceof RefusedError && GONE.has(error.status);
      end(answer, gone ? "lost" : "failed", gone ? { ...error, message: "The server has not kept this answer." } : error);
      this.#onChange(null);
    }
  }

  /** Ends the answer as soon as the server has begun it. What there is of it stays. */
  async stop() {
    const { answer } = this.#turn;
    await this.#beginning.catch(() => {}); // then there is nothing to stop, and run() says why
    if (isRunning(answer) && answer.id) await cancel(answer.id);
  }

  async #begin() {
    const { prompt, parameters, answer } = this.#turn;
    const response = await begin({ ...requestBody(this.#earlier, prompt, parameters), store: true });
    answer.id = response.headers.get("X-Document-Id");
    this.#onChange(null);
    return response;
  }
}
