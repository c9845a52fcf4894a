"""Responses asked for, whole and as a stream; each is checked against the types of OpenAI's client."""

import json
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent

from tests.api.serving import Running

URL = "/v1/responses"
EVENT_TYPES = {
    kind: event
    for event in get_args(get_args(ResponseStreamEvent)[0])
    for kind in get_args(event.model_fields["type"].annotation)
}


async def respond(app: Running, **body: Any) -> dict[str, Any]:
    """A whole response."""
    response = await app.client.post(URL, json={"input": "Show me.", **body})
    return checked(response.status_code, response.text)


async def stored(app: Running, response_id: str) -> dict[str, Any]:
    """A stored response, as far as it is."""
    response = await app.client.get(f"{URL}/{response_id}")
    return checked(response.status_code, response.text)


def checked(status_code: int, text: str) -> dict[str, Any]:
    """A response object of the shape that OpenAI's client expects."""
    assert status_code == 200, text
    Response.model_validate_json(text, strict=True)
    response: dict[str, Any] = json.loads(text)
    return response


async def frames(app: Running, **body: Any) -> list[str]:
    """The server-sent events of a streamed response."""
    response = await app.client.post(URL, json={"input": "Show me.", **body, "stream": True})
    assert response.status_code == 200, response.text
    return split(response.text)


def split(stream: str) -> list[str]:
    """The server-sent events of a stream."""
    return stream.removesuffix("\n\n").split("\n\n")


def read(frames: list[str]) -> list[dict[str, Any]]:
    """What server-sent events say."""
    events = []
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT_TYPES[event["type"]].model_validate_json(data.removeprefix("data: "), strict=True)
        events.append(event)
    return events


async def streamed(app: Running, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed response."""
    return read(await frames(app, **body))


def outline(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, each with the item that it is of; deltas that follow each other as one."""
    lines: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        line = f"{event['output_index']} {kind}" if "output_index" in event else kind
        if not (kind == "output_text.delta" and lines[-1] == line):
            lines.append(line)
    return lines


def message(index: int) -> list[str]:
    """The outline of a message, from its begin to its end."""
    begin = ["output_item.added", "content_part.added", "output_text.delta"]
    return [f"{index} {kind}" for kind in (*begin, "output_text.done", "content_part.done", "output_item.done")]


def picture(index: int, previews: int = 0) -> list[str]:
    """The outline of a picture, from its begin to its end."""
    steps = ["in_progress", "generating", *["partial_image"] * previews, "completed"]
    calls = [f"image_generation_call.{step}" for step in steps]
    return [f"{index} {kind}" for kind in ("output_item.added", *calls, "output_item.done")]


def texts(response: dict[str, Any]) -> list[str | None]:
    """The texts of the output; None for pictures."""
    return [item["content"][0]["text"] if item["type"] == "message" else None for item in response["output"]]
