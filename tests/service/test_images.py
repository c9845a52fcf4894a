"""Pictures of a description by the embedded model, through the whole service."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.training.judge import judge
from tests.service.conftest import Service

pytestmark = pytest.mark.vllm

CAPTION = "a big red circle in the center on a white background"


def pixels(data: bytes) -> np.ndarray:
    """An encoded picture, uint8 ``[height, width, 3]``."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


async def generate(service: Service, **body: Any) -> list[dict[str, Any]]:
    """The pictures of a description."""
    response = await service.client.post("/v1/images/generations", json={"prompt": CAPTION, **body})
    assert response.status_code == 200, response.text
    images: list[dict[str, Any]] = response.json()["data"]
    return images


async def test_a_description_becomes_what_it_says(service: Service) -> None:
    images = await generate(service, n=2, seed=7)

    assert images[0]["b64_json"] != images[1]["b64_json"]
    for image in images:
        shapes = judge(pixels(base64.b64decode(image["b64_json"]))).shapes
        assert [(shape.color, shape.kind) for shape in shapes] == [("red", "circle")]


async def test_a_seed_draws_the_same_picture_inline_and_behind_a_link(service: Service) -> None:
    [inline] = await generate(service, seed=7)
    [linked] = await generate(service, seed=7, response_format="url")

    behind = await service.client.get(linked["url"])

    assert behind.content == base64.b64decode(inline["b64_json"])
