// What is sent to the server: a prompt, and the turns before it.

/**
 * The body of the request for an answer.
 *
 * @param earlier turns before it
 * @param prompt `{text, pictures: [{url}]}`
 * @param parameters fields of the body that the reader chose
 */
export function requestBody(earlier, prompt, parameters) {
  const messages = [...earlier.flatMap(messagesOf), { role: "user", content: contentOf(prompt) }];
  const said = messages.length === 1 ? { input: messages[0].content } : { messages };
  return { ...said, stream: true, ...parameters };
}

/** A turn as two messages. The model is not told of one that it has not answered. */
function messagesOf({ prompt, answer }) {
  const content = answer.parts.flatMap(answerContent);
  if (!content.length) return [];
  return [
    { role: "user", content: contentOf(prompt) },
    { role: "assistant", content },
  ];
}

function contentOf({ text, pictures }) {
  if (!pictures.length) return text;
  return [...pictures.map(({ url }) => imagePart(url)), ...(text ? [{ type: "text", text }] : [])];
}

function answerContent(part) {
  if (part.type === "text") return part.text ? [{ type: "text", text: part.text }] : [];
  return part.image ? [imagePart(part.image.url)] : [];
}

const imagePart = (url) => ({ type: "image_url", image_url: { url } });
