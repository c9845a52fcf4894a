// The server's HTTP interface. Addresses are relative to the page, so that a proxy may serve both under any path.

import { apiKey } from "./key.js";

/** The server refused a request: in OpenAI's shape, as all its errors are. */
export class RefusedError extends Error {
  constructor(status, { message, code, param }) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }

  static async from(response) {
    const body = await response.json().catch(() => ({}));
    const message = `the server answered ${response.status} ${response.statusText}`.trim();
    return new RefusedError(response.status, body.error ?? { message });
  }
}

/** There was no answer at all. */
export class UnreachableError extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

export const address = (path) => new URL(path, document.baseURI).href;

async function request(path, { headers, ...options } = {}) {
  const known = apiKey() === null ? {} : { Authorization: `Bearer ${apiKey()}` };
  const response = await fetch(address(path), { headers: { ...known, ...headers }, ...options }).catch(() => {
    throw new UnreachableError();
  });
  if (!response.ok) throw await RefusedError.from(response);
  return response;
}

/** What there is to know of the model that is served. */
export async function model() {
  const models = await (await request("v1/models")).json();
  return models.data[0];
}

export const DOCUMENTS = "v1/interleaved";

/** Begins a document. Resolves to the response that its events come in. */
export function begin(body) {
  const headers = { "Content-Type": "application/json" };
  return request(DOCUMENTS, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Goes on with a stored document after the event of that number; null starts with its first. */
export function follow(id, after) {
  const from = after === null ? "" : `&starting_after=${after}`;
  return request(`${DOCUMENTS}/${encodeURIComponent(id)}?stream=true${from}`);
}

/** Ends a stored document. Its stream then ends with an event that says so. */
export async function cancel(id) {
  const response = await request(`${DOCUMENTS}/${encodeURIComponent(id)}/cancel`, { method: "POST" });
  await response.body.cancel(); // the document so far, which the stream brings anyway
}
