"""LiteLLM: pictures beside the text, whole and streamed, and without a text."""

import litellm
from answers import placed, read_question, tell, user

question = read_question()
server = {"model": f"openai/{question.model}", "api_base": question.base_url, "api_key": "none", "max_retries": 0}
chat = {
    **server,
    "messages": question.messages,
    "temperature": 0,
    "seed": question.seed,
    "extra_body": {"images": question.images},
}

completion = litellm.completion(**chat)
message, usage = completion.choices[0].message, completion.usage
tell("chat", placed(message.content, message.images), (usage.prompt_tokens, usage.completion_tokens))

text, images = "", []
for chunk in litellm.completion(**chat, stream=True, stream_options={"include_usage": True}):
    usage = getattr(chunk, "usage", None)
    for choice in chunk.choices:
        text += choice.delta.content or ""
        images += getattr(choice.delta, "images", None) or []
tell("chat streamed", placed(text, images), (usage.prompt_tokens, usage.completion_tokens))

chat["messages"] = [*question.messages, message, user(question.then)]
completion = litellm.completion(**chat)
message, usage = completion.choices[0].message, completion.usage
tell("chat goes on", placed(message.content, message.images), (usage.prompt_tokens, usage.completion_tokens))

drawn = litellm.image_generation(
    **server, prompt=question.caption, extra_body={"seed": question.seed, "steps": question.images["steps"]}
)
encoded = [f"data:image/{drawn.output_format};base64,{image.b64_json}" for image in drawn.data]
tell("images", encoded, (drawn.usage.input_tokens, drawn.usage.output_tokens))
