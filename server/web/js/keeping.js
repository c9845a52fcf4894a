// The conversation of this tab, kept in the browser, so that a reload goes on where it was.
//
// Session storage, which every tab has its own of, names the conversation; its turns are in IndexedDB, which has room
// for pictures. A turn is written as one piece, so that an answer always fits the number of its last event.

import { address } from "./api.js";

const TAB = "dreamserve.conversation";
const TURNS = "turns";
const WRITTEN = "written";
const FORGET_AFTER_MS = 24 * 3600 * 1000;
const WRITE_EVERY_MS = 400;

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Keeper {
  /** Opens what is kept for this server. Rejects where the browser keeps nothing. */
  static async open() {
    const opening = indexedDB.open(`dreamserve ${address("")}`, 1);
    opening.onupgradeneeded = () => {
      const turns = opening.result.createObjectStore(TURNS, { keyPath: ["conversation", "index"] });
      turns.createIndex(WRITTEN, WRITTEN);
    };
    const keeper = new Keeper(await done(opening), sessionStorage.getItem(TAB) ?? newName());
    sessionStorage.setItem(TAB, keeper.conversation);
    await keeper.#forgetOld();
    return keeper;
  }

  #database;
  #due = new Map();
  #timer = null;

  constructor(database, conversation) {
    this.#database = database;
    this.conversation = conversation;
    addEventListener("pagehide", () => this.flush()); // which may come too late: then the last words come again
  }

  /** The turns of the conversation, the oldest first. */
  async turns() {
    const { conversation } = this;
    const kept = IDBKeyRange.bound([conversation, 0], [conversation, Infinity]);
    return (await done(this.#store("readonly").getAll(kept))).map(({ turn }) => turn);
  }

  /** Keeps a turn, but not at once: this is called with every word. */
  keep(index, turn) {
    this.#due.set(index, turn);
    this.#timer ??= setTimeout(() => this.flush(), WRITE_EVERY_MS);
  }

  /** Writes now what is due. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const store = this.#store("readwrite");
    for (const [index, turn] of this.#due) {
      store.put({ conversation: this.conversation, index, turn, written: Date.now() });
    }
    this.#due.clear();
    store.transaction.commit(); // the page may be gone before it would be by itself
  }

  /** Forgets the conversation and starts another. */
  startOver() {
    const { conversation } = this;
    this.#due.clear();
    this.#store("readwrite").delete(IDBKeyRange.bound([conversation, 0], [conversation, Infinity]));
    this.conversation = newName();
    sessionStorage.setItem(TAB, this.conversation);
  }

  #store(mode) {
    return this.#database.transaction(TURNS, mode).objectStore(TURNS);
  }

  /** Removes what closed tabs have left. */
  async #forgetOld() {
    const store = this.#store("readwrite");
    const old = IDBKeyRange.upperBound(Date.now() - FORGET_AFTER_MS);
    for (const key of await done(store.index(WRITTEN).getAllKeys(old))) {
      if (key[0] !== this.conversation) store.delete(key);
    }
  }
}

/** Not crypto.randomUUID(), which plain http has only on this machine. */
const newName = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
