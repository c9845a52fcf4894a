import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const dreamserve = createOpenAICompatible({ name: "dreamserve", baseURL: "http://localhost:8000/v1" });
const { textStream } = streamText({
  model: dreamserve("dreamllm-tiny"),
  prompt: "Draw two pictures: a red circle, then a blue star.",
  seed: 7,
  providerOptions: { dreamserve: { image_output: "markdown", images: { delivery: "url" } } },
});
for await (const text of textStream) process.stdout.write(text); // Here is a red circle. ![image 1](http://…)
