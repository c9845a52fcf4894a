"""LangChain's ChatOpenAI: pictures in the content or in Markdown, whole and streamed, and as responses."""

from functools import reduce
from operator import add

from answers import listed, read_question, tell, user, written
from langchain_openai import ChatOpenAI

question = read_question()


def model(image_output="content", **options):
    return ChatOpenAI(
        base_url=question.base_url,
        api_key="none",
        model=question.model,
        temperature=0,
        seed=question.seed,
        stream_usage=True,
        max_retries=0,
        extra_body={"images": question.images, "image_output": image_output},
        **options,
    )


def tokens(message):
    return message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]


first = message = model().invoke(question.messages)
tell("content", listed(message.content), tokens(message))

message = reduce(add, model().stream(question.messages))
tell("content streamed", listed(message.content), tokens(message))

for name, answer in {"goes on": first, "goes on after a stream": message}.items():
    message = model().invoke([*question.messages, answer, user(question.then)])
    tell(name, listed(message.content), tokens(message))

message = model("markdown").invoke(question.messages)
tell("markdown", written(message.content), tokens(message))

message = reduce(add, model("markdown").stream(question.messages))
tell("markdown streamed", written(message.content), tokens(message))
