"""What the clients are asked, and what the native surface answers."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.service.clients.probes.answers import Question
from tests.service.conftest import Service

MODEL = "dreamllm-tiny"


@dataclass(frozen=True)
class Answer:
    """An answer as somebody has it.

    Attributes:
        parts: texts, and pictures as data URLs, in order.
        usage: tokens in and out.
    """

    parts: list[str]
    usage: tuple[int, int]


@pytest.fixture(scope="session")
def question(service: Service) -> Question:
    return Question(
        base_url=f"{service.client.base_url}/v1",
        model=MODEL,
        prompt="Draw two pictures: a red circle, then a blue star.",
        then="Draw a green square.",
        seed=7,
        images={"steps": 4},
        caption="a big red circle",
    )


async def native_answer(service: Service, body: dict[str, Any]) -> Answer:
    """A document of the native surface."""
    document = await service.document(body)
    parts = [part["text"] if part["type"] == "text" else data_url(part["image"]) for part in document["parts"]]
    return Answer(parts, (document["usage"]["prompt_tokens"], document["usage"]["completion_tokens"]))


async def native_pictures(service: Service, body: dict[str, Any]) -> Answer:
    """Pictures of a description, asked for without any client's help."""
    response = await service.client.post("/v1/images/generations", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    parts = [data_url({**image, "format": "png"}) for image in answer["data"]]
    return Answer(parts, (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]))


def data_url(image: dict[str, Any]) -> str:
    """A picture of an answer."""
    return f"data:image/{image['format']};base64,{image['b64_json']}"
