"""Chat completions of the embedded model, through the whole service and OpenAI's own client."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from tests.service.conftest import Service

pytestmark = pytest.mark.vllm

PROMPT = "Draw two pictures: a red circle, then a blue star."
TWO_PICTURES: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
REPEATABLE: dict[str, Any] = {"model": "dreamllm-tiny", "temperature": 0, "seed": 7}


@pytest_asyncio.fixture(scope="session")
async def openai(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{service.client.base_url}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_an_answer_is_the_native_document_in_another_form(service: Service, openai: AsyncOpenAI) -> None:
    document = await service.document({"input": PROMPT, "temperature": 0, "seed": 7})
    completion = await openai.chat.completions.create(messages=TWO_PICTURES, **REPEATABLE)

    message: Any = completion.choices[0].message
    images = {image["part"]: image for image in message.images}
    assert len(images) == 2
    text = ""
    for index, part in enumerate(document["parts"]):
        if part["type"] == "text":
            text += part["text"]
        else:
            assert images[index]["image_url"]["url"] == f"data:image/png;base64,{part['image']['b64_json']}"
            assert images[index]["text_offset"] == len(text)
    assert message.content == text


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client, which knows of text alone
@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_a_stream_adds_up_to_the_whole_answer(openai: AsyncOpenAI, image_output: str) -> None:
    extra = {"image_output": image_output, "images": {"feedback": "none", "steps": 4}}
    whole = await openai.chat.completions.create(messages=TWO_PICTURES, **REPEATABLE, extra_body=extra)
    async with openai.chat.completions.stream(
        messages=TWO_PICTURES, **REPEATABLE, extra_body=extra, stream_options={"include_usage": True}
    ) as stream:
        streamed = await stream.get_final_completion()

    first, second = (without_nulls(c.choices[0].message) for c in (whole, streamed))
    if image_output == "images":
        first["images"], second["images"] = in_order(first["images"]), in_order(second["images"])
    assert second == first
    assert streamed.usage is not None
    assert whole.usage is not None
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens


def without_nulls(message: BaseModel) -> dict[str, Any]:
    """A message as the client has it: put together from a stream, it holds more fields of no value."""
    return {name: value for name, value in message.model_dump(warnings=False).items() if value is not None}


def in_order(images: Any) -> list[dict[str, Any]]:
    """Pictures in the order of the document, whichever came first."""
    return [{**image, "index": None} for image in sorted(images, key=lambda image: image["part"])]


async def test_a_conversation_goes_on_after_pictures(openai: AsyncOpenAI) -> None:
    first = await openai.chat.completions.create(messages=TWO_PICTURES, **REPEATABLE)
    messages = [*TWO_PICTURES, first.choices[0].message.to_dict(), {"role": "user", "content": "Draw a green square."}]
    second = await openai.chat.completions.create(messages=messages, **REPEATABLE)  # type: ignore[arg-type]

    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + first.usage.completion_tokens
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens  # the context of the first answer
    assert second.choices[0].message.images  # type: ignore[attr-defined]


async def test_an_answer_follows_a_json_schema(openai: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"radius": {"type": "integer", "minimum": 1, "maximum": 9}, "color": {"enum": ["red", "blue"]}},
        "required": ["radius", "color"],
        "additionalProperties": False,
    }
    completion = await openai.chat.completions.create(
        messages=TWO_PICTURES,
        response_format={"type": "json_schema", "json_schema": {"name": "circle", "schema": schema}},
        **REPEATABLE,
    )

    content = json.loads(completion.choices[0].message.content or "")
    assert content.keys() == {"radius", "color"}
    assert content["radius"] in range(1, 10)
    assert content["color"] in ("red", "blue")


async def test_text_alone_holds_no_picture(openai: AsyncOpenAI) -> None:
    completion = await openai.chat.completions.create(
        messages=TWO_PICTURES,
        modalities=["text"],
        logprobs=True,
        top_logprobs=2,
        max_completion_tokens=20,
        **REPEATABLE,
    )

    choice = completion.choices[0]
    assert not hasattr(choice.message, "images")
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        assert token.token in [likely.token for likely in token.top_logprobs]  # greedy
