// An answer, put together from its events. It is plain data, which is kept as it is.

/** `last` is the number of the last event that was applied. Ends are completed, failed, stopped and lost. */
export const newAnswer = () => ({
  id: null,
  model: null,
  status: "waiting",
  last: null,
  parts: [],
  usage: null,
  finishReason: null,
  error: null,
});

export const isRunning = (answer) => answer.status === "waiting" || answer.status === "running";

/** Adds what one event tells. */
export function apply(answer, event) {
  answer.last = event.sequence;
  switch (event.type) {
    case "document.started":
      Object.assign(answer, { id: event.id, model: event.model, status: "running" });
      break;
    case "text.delta":
      part(answer, event, "text").text += event.text;
      break;
    case "image.queued":
      Object.assign(part(answer, event, "image"), { state: "queued", ahead: event.position, eta: event.eta_s });
      break;
    case "image.progress":
      Object.assign(part(answer, event, "image"), { state: "drawing", step: event.step, steps: event.steps });
      break;
    case "image.preview":
      part(answer, event, "image").preview = pictureOf(event.image);
      break;
    case "image.completed":
      Object.assign(part(answer, event, "image"), {
        state: "completed",
        image: pictureOf(event.image),
        preview: null,
      });
      break;
    case "image.failed":
      fail(part(answer, event, "image"), event.error.message);
      break;
    case "document.completed":
      answer.finishReason = event.finish_reason;
      answer.usage = event.usage;
      end(answer, "completed");
      break;
    case "document.failed":
      answer.usage = event.usage;
      end(answer, event.error.code === "cancelled" ? "stopped" : "failed", event.error);
      break;
  }
}

/** Ends an answer; pictures that are still missing will not come. */
export function end(answer, status, error = null) {
  answer.status = status;
  answer.error = error && { message: error.message, code: error.code ?? null };
  for (const pending of pictures(answer)) {
    if (pending.state === "queued" || pending.state === "drawing") fail(pending, "the answer ended before it was drawn");
  }
}

export const pictures = (answer) => Object.values(answer.parts).filter(({ type }) => type === "image");

/** Which picture of the answer the part of that index is, counted from 1. */
export const pictureNumber = (answer, index) => pictures({ parts: answer.parts.slice(0, index + 1) }).length;

function part(answer, event, type) {
  answer.parts[event.part] ??= type === "text" ? { type, text: "" } : { type };
  return answer.parts[event.part];
}

function fail(picture, reason) {
  Object.assign(picture, { state: "failed", reason, preview: null });
}

function pictureOf({ b64_json, format, width, height, seed }) {
  return { url: `data:image/${format};base64,${b64_json}`, format, width, height, seed };
}
