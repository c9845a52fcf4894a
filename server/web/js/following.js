// The events of a stored answer through whatever the connection does.

import { follow, RefusedError, UnreachableError } from "./api.js";
import { serverSentEvents } from "./sse.js";

const PAUSES_MS = [200, 1000, 2000, 4000, 8000, 15000, 15000, 15000];
const PASSING = new Set([429, 502, 503, 504]);

export const isLast = (event) => event.type === "document.completed" || event.type === "document.failed";

/**
 * Each event once, up to the last, over as many connections as it takes.
 *
 * @param answer read whenever a connection has to be made: its `id`, and `last`, the number of the event that was
 *   applied to it last
 * @param response of the request that began it; null connects
 * @param onBreak called whenever a connection broke off
 * @throws {RefusedError} the server has nothing more for us
 * @throws {UnreachableError} it stayed away
 */
export async function* eventsOf(answer, response, onBreak) {
  let breaks = 0;
  for (;;) {
    try {
      response ??= await follow(answer.id, answer.last);
      for await (const event of serverSentEvents(response.body)) {
        breaks = 0;
        yield event;
        if (isLast(event)) return;
      }
    } catch (error) {
      if (!passes(error)) throw error;
    }
    if (breaks === PAUSES_MS.length) throw new UnreachableError();
    onBreak();
    await new Promise((resume) => setTimeout(resume, PAUSES_MS[breaks]));
    breaks += 1;
    response = null;
  }
}

/** A broken stream is a TypeError, says fetch's specification. */
function passes(error) {
  if (error instanceof RefusedError) return PASSING.has(error.status);
  return error instanceof UnreachableError || error instanceof TypeError;
}
