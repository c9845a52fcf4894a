// OpenAI's client for Node: chat, responses and images, whole and streamed.

import OpenAI from "openai";
import { items, placed, question, tell, user } from "./answers.mjs";

const { model, prompt, then, seed, images, caption } = question;
const client = new OpenAI({ baseURL: question.base_url, apiKey: "none", maxRetries: 0 });
const chat = { model, messages: [user(prompt)], temperature: 0, seed, images };
const response = { model, input: prompt, temperature: 0, seed, images };
const drawing = { model, prompt: caption, seed, steps: images.steps };

const completion = await client.chat.completions.create(chat);
const { message } = completion.choices[0];
tell("chat", placed(message.content, message.images), chatTokens(completion.usage));

let text = "";
let usage;
const pictures = [];
const chunks = await client.chat.completions.create({
  ...chat,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of chunks) {
  usage = chunk.usage;
  for (const { delta } of chunk.choices) {
    text += delta.content ?? "";
    pictures.push(...(delta.images ?? []));
  }
}
tell("chat streamed", placed(text, pictures), chatTokens(usage));

const next = await client.chat.completions.create({ ...chat, messages: [user(prompt), message, user(then)] });
tell("chat goes on", placed(next.choices[0].message.content, next.choices[0].message.images), chatTokens(next.usage));

const answer = await client.responses.create(response);
tell("responses", items(answer.output), tokens(answer.usage));

const parts = [];
for await (const event of await client.responses.create({ ...response, stream: true })) {
  if (event.type === "response.output_text.delta") parts.push(event.delta);
  else if (event.type === "response.output_item.done" && event.item.type === "image_generation_call")
    parts.push(...items([event.item]));
  else if (event.type === "response.completed") usage = event.response.usage;
}
tell("responses streamed", parts, tokens(usage));

const later = await client.responses.create({ ...response, input: then, previous_response_id: answer.id });
tell("responses go on", items(later.output), tokens(later.usage));

const drawn = await client.images.generate(drawing);
tell("images", drawn.data.map((image) => encoded(drawn, image)), tokens(drawn.usage));

for await (const event of await client.images.generate({ ...drawing, stream: true, partial_images: 1 })) {
  if (event.type === "image_generation.completed") tell("images streamed", [encoded(event, event)], tokens(event.usage));
}

function encoded({ output_format }, { b64_json }) {
  return `data:image/${output_format};base64,${b64_json}`;
}

function chatTokens({ prompt_tokens, completion_tokens }) {
  return [prompt_tokens, completion_tokens];
}

function tokens({ input_tokens, output_tokens }) {
  return [input_tokens, output_tokens];
}
