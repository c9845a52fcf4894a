// Vercel's AI SDK: pictures in Markdown, inline and as links, whole and streamed, and without a text.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage, generateText, streamText } from "ai";
import { question, tell, user, written } from "./answers.mjs";

const { model, prompt, then, seed, images, caption } = question;
const dreamserve = createOpenAICompatible({ name: "dreamserve", baseURL: question.base_url, includeUsage: true });
const asked = {
  model: dreamserve(model),
  temperature: 0,
  seed,
  maxRetries: 0,
  providerOptions: { dreamserve: { image_output: "markdown", images } },
};

const answer = await generateText({ ...asked, prompt });
tell("markdown", written(answer.text), tokens(await answer.usage));

const stream = streamText({ ...asked, prompt });
let text = "";
for await (const delta of stream.textStream) text += delta;
tell("markdown streamed", written(text), tokens(await stream.usage));

const messages = [user(prompt), { role: "assistant", content: answer.text }, user(then)];
const next = await generateText({ ...asked, messages });
tell("goes on", written(next.text), tokens(next.usage));

asked.providerOptions.dreamserve.images = { ...images, delivery: "url" };
const linked = await generateText({ ...asked, prompt });
tell("links", await Promise.all(written(linked.text).map(fetched)), tokens(linked.usage));

const { image, usage } = await generateImage({
  model: dreamserve.imageModel(model),
  prompt: caption,
  maxRetries: 0,
  providerOptions: { dreamserve: { seed, steps: images.steps } },
});
tell("image", [`data:${image.mediaType};base64,${image.base64}`], tokens(usage));

// A picture for its link; any other part as it is.
async function fetched(part) {
  if (!part.startsWith("http://")) return part;
  const response = await fetch(part);
  const data = Buffer.from(await response.arrayBuffer()).toString("base64");
  return `data:${response.headers.get("content-type")};base64,${data}`;
}

function tokens({ inputTokens, outputTokens }) {
  return [inputTokens, outputTokens];
}
