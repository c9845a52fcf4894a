"""Chat completions asked for, whole and as a stream."""

import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

from PIL import Image

from tests.api.serving import Running

QUESTION = [{"role": "user", "content": "Show me."}]
URL = "/v1/chat/completions"


async def chat(app: Running, **body: Any) -> dict[str, Any]:
    """A whole chat completion."""
    response = await app.client.post(URL, json={"messages": QUESTION, **body})
    assert response.status_code == 200, response.text
    completion: dict[str, Any] = response.json()
    return completion


async def answer(app: Running, **body: Any) -> dict[str, Any]:
    """The message of a whole chat completion."""
    message: dict[str, Any] = (await chat(app, **body))["choices"][0]["message"]
    return message


async def chunks(app: Running, **body: Any) -> list[dict[str, Any]]:
    """All chunks of a chat completion that ends well."""
    response = await app.client.post(URL, json={"messages": QUESTION, **body, "stream": True})
    assert response.status_code == 200, response.text
    *events, last = response.text.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def live_deltas(app: Running, **body: Any) -> AsyncIterator[dict[str, Any]]:
    """What the chunks of a stream add, as they come."""
    async with app.client.stream("POST", URL, json={"messages": QUESTION, **body, "stream": True}) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for delta in deltas([json.loads(line.removeprefix("data: "))]):
                    yield delta


def text_of(deltas: list[dict[str, Any]]) -> str:
    """The text of deltas, wherever the pictures are."""
    contents = [delta.get("content") or "" for delta in deltas]
    return "".join(c if isinstance(c, str) else "".join(part.get("text", "") for part in c) for c in contents)


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the chunks add, those that add nothing left out."""
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"] and chunk["choices"][0]["delta"]]


def picture(url: str) -> Image.Image:
    """The picture of a data URL."""
    header, _, data = url.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert header == f"data:image/{(image.format or '').lower()};base64"
    return image


def data_url(colour: str = "red", size: tuple[int, int] = (40, 30)) -> str:
    """A picture in one colour."""
    encoded = io.BytesIO()
    Image.new("RGB", size, colour).save(encoded, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
