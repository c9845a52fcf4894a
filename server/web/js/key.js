// The caller's API key. This tab has it until it is closed: a reload keeps it, no other page and no disk ever sees it.

const KEPT = `dreamserve.key ${document.baseURI}`;

let key = kept();

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null; // the browser keeps nothing for this site
  }
}

/** The key, or null. */
export const apiKey = () => key;

export function keepKey(given) {
  key = given;
  try {
    sessionStorage.setItem(KEPT, given);
  } catch {
    // It holds until the page is left.
  }
}

/** What the server says to requests without a key that is in force. */
export const REFUSED = "invalid_api_key";
