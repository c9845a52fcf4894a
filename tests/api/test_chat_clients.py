"""OpenAI's own Python client reads the answers, pictures included, whole and streamed."""

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel

from tests.api.chatting import picture
from tests.api.serving import on_socket, scripted_engine
from tests.scripted.engine import TokenItem
from tests.scripted.script import DREAM, EOS

STORY: tuple[list[TokenItem], ...] = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
TEXT = "Look:  A cat, and the end."
QUESTION: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Show me."}]


@asynccontextmanager
async def talking(*turns: Sequence[TokenItem]) -> AsyncIterator[AsyncOpenAI]:
    """A client of a server that answers so."""
    async with (
        on_socket(scripted_engine(*turns)) as app,
        AsyncOpenAI(base_url=f"{app.client.base_url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def offsets(images: list[dict[str, Any]]) -> list[int]:
    """Places of pictures, which really are some."""
    for image in images:
        assert picture(image["image_url"]["url"]).size == (64, 64)
    return [image["text_offset"] for image in images]


async def test_an_answer_whole() -> None:
    async with talking(*STORY) as client:
        completion = await client.chat.completions.create(model="scripted", messages=QUESTION)

    message = completion.choices[0].message
    assert message.content == TEXT
    assert offsets(message.images) == [6, 18]  # type: ignore[attr-defined]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.images == 2  # type: ignore[attr-defined]


async def test_an_answer_as_a_stream() -> None:
    text, images, usage = "", [], None
    async with talking(*STORY) as client:
        stream = await client.chat.completions.create(
            model="scripted",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"images": {"steps": 3}},
        )
        async for chunk in stream:
            usage = chunk.usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                images += getattr(choice.delta, "images", [])

    assert text == TEXT
    assert offsets(images) == [6, 18]
    assert usage is not None
    assert usage.denoising_steps == 6  # type: ignore[attr-defined]


async def test_an_answer_put_together_by_the_client() -> None:
    async with (
        talking(*STORY) as client,
        client.chat.completions.stream(model="scripted", messages=QUESTION) as stream,
    ):
        message = (await stream.get_final_completion()).choices[0].message

    assert message.content == TEXT
    assert offsets(message.images) == [6, 18]  # type: ignore[attr-defined]


async def test_a_conversation_goes_on_with_what_the_client_has_of_the_answer() -> None:
    async with talking(*STORY, ["Yes.", EOS]) as client:
        first = await client.chat.completions.create(model="scripted", messages=QUESTION)
        message: Any = first.choices[0].message
        second = await client.chat.completions.create(model="scripted", messages=[*QUESTION, message, *QUESTION])

    assert second.choices[0].message.content == "Yes."
    assert first.usage is not None
    assert second.usage is not None
    pictures = 2 * 11  # each stands in the context with its queries and patches
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + len(TEXT) + pictures


class Circle(BaseModel):
    """What the model is asked for."""

    radius: int


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client, on what it parsed itself
async def test_an_answer_parsed_by_a_schema_can_be_sent_back() -> None:
    async with talking(['{"radius": 3}', EOS], ["Yes.", EOS]) as client:
        parsed = await client.chat.completions.parse(model="scripted", messages=QUESTION, response_format=Circle)
        message: Any = parsed.choices[0].message
        completion = await client.chat.completions.create(model="scripted", messages=[*QUESTION, message, *QUESTION])

    assert message.parsed == Circle(radius=3)
    assert completion.choices[0].message.content == "Yes."


async def test_log_probabilities() -> None:
    async with talking(["Hi", EOS]) as client:
        completion = await client.chat.completions.create(
            model="scripted", messages=QUESTION, logprobs=True, top_logprobs=1
        )

    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.token for token in logprobs.content] == ["H", "i"]
    assert [len(token.top_logprobs) for token in logprobs.content] == [1, 1]


async def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    text = io.StringIO()
    async with talking(["Once", RuntimeError("broken")]) as client:
        stream = await client.chat.completions.create(model="scripted", messages=QUESTION, stream=True)

        async def read() -> None:
            async for chunk in stream:
                text.write(chunk.choices[0].delta.content or "")

        with pytest.raises(APIError) as failed:
            await read()

    assert text.getvalue() == "Once"
    assert failed.value.code == "internal_error"


async def test_a_bad_request_is_raised_with_its_field() -> None:
    async with talking() as client:
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(model="scripted", messages=QUESTION, n=2)

    assert refused.value.param == "n"


async def test_a_stored_answer_is_had_again_and_forgotten() -> None:
    async with talking(*STORY) as client:
        first = await client.chat.completions.create(model="scripted", messages=QUESTION, store=True)
        again = await client.chat.completions.retrieve(first.id)
        deleted = await client.chat.completions.delete(first.id)

    assert again.to_dict() == first.to_dict()
    assert deleted.deleted
