"""OpenAI's own Python client asks for pictures and reads them, whole and streamed."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, InternalServerError
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from server.pool.base import RenderError
from tests.api.serving import on_socket
from tests.scripted.pool import ScriptedPool, drawing

PROMPT = "a red circle"


@asynccontextmanager
async def asking(pool: ScriptedPool | None = None) -> AsyncIterator[AsyncOpenAI]:
    """A client of a server that draws so."""
    async with (
        on_socket(pool=pool) as app,
        AsyncOpenAI(base_url=f"{app.client.base_url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def size(b64_json: str | None) -> tuple[int, int]:
    """Of the picture that base64 stands for."""
    return Image.open(io.BytesIO(base64.b64decode(b64_json or ""))).size


async def test_pictures_whole() -> None:
    async with asking() as client:
        images = await client.images.generate(
            model="scripted", prompt=PROMPT, n=2, size="auto", output_format="webp", extra_body={"seed": 7, "steps": 3}
        )

    assert [size(image.b64_json) for image in images.data or ()] == [(64, 64), (64, 64)]
    assert images.output_format == "webp"
    assert images.size == "64x64"
    assert images.usage is not None
    assert images.usage.total_tokens == images.usage.input_tokens + images.usage.output_tokens


async def test_pictures_as_links() -> None:
    async with asking() as client, httpx.AsyncClient() as browser:
        images = await client.images.generate(model="scripted", prompt=PROMPT, response_format="url")
        [image] = images.data or ()
        response = await browser.get(image.url or "")

    assert image.b64_json is None
    assert response.headers["content-type"] == "image/png"


async def test_pictures_as_a_stream() -> None:
    async with asking() as client:
        stream = await client.images.generate(model="scripted", prompt=PROMPT, stream=True, partial_images=2)
        events = [event async for event in stream]

    *partial, completed = events
    assert [event.partial_image_index for event in partial if isinstance(event, ImageGenPartialImageEvent)] == [0, 1]
    assert isinstance(completed, ImageGenCompletedEvent)
    assert size(completed.b64_json) == (64, 64)
    assert completed.usage.total_tokens > 0


async def test_a_failure_is_an_exception_of_the_client() -> None:
    failing = [RenderError("render_failed", "out of paint")]
    async with asking(ScriptedPool([drawing, failing, failing])) as client:
        with pytest.raises(InternalServerError, match="out of paint"):
            await client.images.generate(model="scripted", prompt=PROMPT)
        with pytest.raises(APIError, match="out of paint"):
            async for _ in await client.images.generate(model="scripted", prompt=PROMPT, stream=True):
                pass


async def test_a_wrong_parameter_is_an_exception_of_the_client() -> None:
    async with asking() as client:
        with pytest.raises(BadRequestError) as refused:
            await client.images.generate(model="scripted", prompt=PROMPT, background="transparent")

    assert refused.value.param == "background"
