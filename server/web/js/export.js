// The conversation as a page of one file, which needs no server and runs nothing.

import { contextOf, factsOf } from "./turn-view.js";
import { shownWidth } from "./picture-view.js";

const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

const STYLE = `
:root { color-scheme: light dark; --ground: light-dark(#fafafb, #111116); --ink: light-dark(#1d1d26, #ebebef);
  --quiet: light-dark(#5f5f6b, #a9a9b5); --rule: light-dark(#e0e0e5, #33333d); }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--ink); font: 1.25rem/1.55 "Iowan Old Style", Charter, Georgia, serif; }
main { max-width: 42rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 5rem) 1.25rem; }
article + article { margin-top: 3.5rem; padding-top: 2.5rem; border-top: 1px solid var(--rule); }
h1, h2, figcaption, footer { font-family: system-ui, sans-serif; }
h1, h2 { margin-bottom: 1.5rem; font-size: 1.0625rem; line-height: 1.45; font-weight: 600; }
h1, h2, p { white-space: pre-wrap; overflow-wrap: anywhere; }
p, figure { margin-bottom: 1.5rem; }
img { display: block; width: 100%; height: auto; border-radius: .75rem; }
.shown img { width: auto; max-height: 10rem; max-width: 100%; margin-bottom: 1rem; }
figcaption { margin-top: .5rem; }
figcaption, footer, .missing { font-size: .8125rem; color: var(--quiet); }
`;

/** The page as HTML. It is built as a document, so that whatever the texts say stays text. */
export function conversationPage(turns) {
  const page = document.implementation.createHTMLDocument(titleOf(turns[0]));
  page.documentElement.lang = "en";
  page.head.prepend(
    build(page, "meta", { charset: "utf-8" }),
    build(page, "meta", { "http-equiv": "Content-Security-Policy", content: POLICY }),
    build(page, "meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
  );
  page.body.append(build(page, "main", {}, ...turns.map((turn, index) => turnOf(page, turn, index ? "h2" : "h1"))));
  // The style comes as text: as an element it would be refused already here, by the policy of the page that we are on.
  const html = page.documentElement.outerHTML.replace("</head>", () => `<style>${STYLE}</style></head>`);
  return `<!doctype html>\n${html}\n`;
}

function turnOf(page, { prompt, answer }, heading) {
  const shown = prompt.pictures.map(({ url, name }) => build(page, "img", { src: url, alt: name }));
  const parts = answer.parts.map((part, index) => partOf(page, part, contextOf(answer.parts[index - 1], prompt)));
  return build(
    page,
    "article",
    {},
    ...(shown.length ? [build(page, "div", { class: "shown" }, ...shown)] : []),
    build(page, heading, {}, prompt.text),
    ...parts,
    build(page, "footer", {}, factsOf(answer)),
  );
}

function partOf(page, part, context) {
  if (part.type === "text") return build(page, "p", {}, part.text.trim());
  if (!part.image) return build(page, "p", { class: "missing" }, `No picture: ${part.reason ?? "it was not finished"}`);
  const { url, width, height, seed } = part.image;
  const image = build(page, "img", { src: url, width, height, alt: `Drawn for: ${context}` });
  image.style.maxWidth = `${shownWidth(width)}px`;
  return build(page, "figure", {}, image, build(page, "figcaption", {}, `${width} × ${height}, seed ${seed}`));
}

function build(page, tag, attributes, ...children) {
  const element = page.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const titleOf = ({ prompt: { text } }) => (text.length > 60 ? `${text.slice(0, 59)}…` : text || "DreamServe");
