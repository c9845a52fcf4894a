import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://localhost:8000/v1", apiKey: "none" });
const stream = await client.responses.create({
  model: "dreamllm-tiny",
  input: "Draw two pictures: a red circle, then a blue star.",
  seed: 7,
  stream: true,
});
for await (const event of stream) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
  if (event.type === "response.output_item.done" && event.item.type === "image_generation_call") {
    const picture = `picture-${event.output_index}.png`;
    writeFileSync(picture, event.item.result, "base64");
    process.stdout.write(`[${picture}]`);
  }
}
