// The page's own elements. Text only ever becomes text: markup is in index.html, in templates.

export const find = (selector, root = document) => root.querySelector(selector);

/** A copy of what a template holds: one element. */
export const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export function show(element, visible = true) {
  element.hidden = !visible;
}

/** Hands a file to the reader. */
export function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it only after the click
}
