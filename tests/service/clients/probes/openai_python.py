"""OpenAI's Python client: chat, responses and images, whole and streamed."""

from answers import items, placed, read_question, tell, user
from openai import OpenAI

question = read_question()
client = OpenAI(base_url=question.base_url, api_key="none", max_retries=0)
extras = {"images": question.images}
chat = {
    "model": question.model,
    "messages": question.messages,
    "temperature": 0,
    "seed": question.seed,
    "extra_body": extras,
}
response = {
    "model": question.model,
    "input": question.prompt,
    "temperature": 0,
    "extra_body": {**extras, "seed": question.seed},
}
drawing = {
    "model": question.model,
    "prompt": question.caption,
    "extra_body": {"seed": question.seed, "steps": question.images["steps"]},
}

completion = client.chat.completions.create(**chat)
message, usage = completion.choices[0].message, completion.usage
tell("chat", placed(message.content, message.images), (usage.prompt_tokens, usage.completion_tokens))

text, images = "", []
for chunk in client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        images += getattr(choice.delta, "images", [])
tell("chat streamed", placed(text, images), (usage.prompt_tokens, usage.completion_tokens))

chat["messages"] = [*question.messages, message, user(question.then)]
completion = client.chat.completions.create(**chat)
message, usage = completion.choices[0].message, completion.usage
tell("chat goes on", placed(message.content, message.images), (usage.prompt_tokens, usage.completion_tokens))

answer = client.responses.create(**response)
tell("responses", items(answer.to_dict()["output"]), (answer.usage.input_tokens, answer.usage.output_tokens))

parts = []
for event in client.responses.create(**response, stream=True):
    if event.type == "response.output_text.delta":
        parts.append(event.delta)
    elif event.type == "response.output_item.done" and event.item.type == "image_generation_call":
        parts += items([event.item.to_dict()])
    elif event.type == "response.completed":
        usage = event.response.usage
tell("responses streamed", parts, (usage.input_tokens, usage.output_tokens))

response["input"] = question.then
answer = client.responses.create(**response, previous_response_id=answer.id)
tell("responses go on", items(answer.to_dict()["output"]), (answer.usage.input_tokens, answer.usage.output_tokens))

drawn = client.images.generate(**drawing)
encoded = [f"data:image/{drawn.output_format};base64,{image.b64_json}" for image in drawn.data]
tell("images", encoded, (drawn.usage.input_tokens, drawn.usage.output_tokens))

for event in client.images.generate(**drawing, stream=True, partial_images=1):
    if event.type == "image_generation.completed":
        encoded = [f"data:image/{event.output_format};base64,{event.b64_json}"]
        tell("images streamed", encoded, (event.usage.input_tokens, event.usage.output_tokens))
