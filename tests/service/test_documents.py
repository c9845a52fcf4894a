"""Documents of the embedded model through the whole service."""

import asyncio
import base64
import itertools
import json
from collections import Counter
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from httpx_sse import ServerSentEvent
from PIL import Image

from models.training.judge import judge
from models.training.world import COLORS, KINDS, Scene, Shape, draw
from tests.service.conftest import Service

pytestmark = pytest.mark.vllm

TWO_PICTURES = {"input": "Draw two pictures: a red circle, then a blue star.", "temperature": 0, "seed": 7}


def pixels(image: dict[str, Any]) -> np.ndarray:
    """A picture of a response, uint8 ``[height, width, 3]``."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(image["b64_json"]))).convert("RGB"))


def data_url(picture: np.ndarray) -> str:
    """A picture for a request."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def names(events: list[ServerSentEvent]) -> list[str]:
    return [event.event for event in events]


def pictures(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [part["image"] for part in document["parts"] if part["type"] == "image"]


def text(document: dict[str, Any]) -> str:
    return "".join(part["text"] for part in document["parts"] if part["type"] == "text")


async def test_text_streams_before_the_first_picture_is_finished(service: Service) -> None:
    events = await service.events(TWO_PICTURES)
    seen = names(events)
    assert seen[0] == "document.started"
    assert seen[-1] == "document.completed"
    assert seen.count("image.queued") == seen.count("image.completed") == 2
    assert seen.index("text.delta") < seen.index("image.queued") < seen.index("image.progress")
    assert seen.index("image.progress") < seen.index("image.completed")
    assert [int(event.id) for event in events] == list(range(len(events)))


async def test_the_pictures_show_what_the_text_says(service: Service) -> None:
    document = await service.document(TWO_PICTURES)
    kinds = [part["type"] for part in document["parts"]]
    assert kinds[:4] == ["text", "image", "text", "image"]
    for i, (color, kind) in enumerate([("red", "circle"), ("blue", "star")]):
        assert f"{color} {kind}" in document["parts"][2 * i]["text"]
        shapes = judge(pixels(document["parts"][2 * i + 1]["image"])).shapes
        assert [(shape.color, shape.kind) for shape in shapes] == [(color, kind)]


async def test_a_seed_gives_the_same_document_streamed_or_whole(service: Service) -> None:
    body = {"input": "Tell me a story about a green square.", "seed": 11, "temperature": 0.8}
    whole, again = await service.document(body), await service.document(body)
    assert pictures(whole)
    assert whole["parts"] == again["parts"]
    streamed = [json.loads(event.data) for event in await service.events(body)]
    assert "".join(e["text"] for e in streamed if e["type"] == "text.delta") == text(whole)
    assert [e["image"] for e in streamed if e["type"] == "image.completed"] == pictures(whole)


async def test_streamed_text_is_one_decoding_of_all_sampled_tokens(service: Service) -> None:
    events = await service.events({"input": "Tell me a story about a pink circle.", "seed": 3})
    streamed = [json.loads(event.data) for event in events]
    document = streamed[0]["id"]
    turns = [ids for request, ids in service.engine.sampled.items() if request.startswith(document)]
    assert len(turns) > 1
    ids = list(itertools.chain.from_iterable(turns))
    expected = service.engine.tokenizer.decode(ids, skip_special_tokens=True)
    assert "".join(e["text"] for e in streamed if e["type"] == "text.delta") == expected
    assert streamed[-1]["usage"]["completion_tokens"] == len(ids)


async def test_when_the_image_budget_is_spent_the_text_goes_on_without(service: Service) -> None:
    body = {"input": "Tell me a story about a red star with three pictures.", "temperature": 0}
    document = await service.document({**body, "images": {"max": 1}})
    assert len(pictures(document)) == 1
    # The embedded model does not know that it may draw no more, and writes until it finds an end or no room.
    assert document["finish_reason"] in ("stop", "length")
    assert document["parts"][-1]["type"] == "text"
    assert pictures(await service.document({**body, "images": {"max": 0}})) == []


async def test_a_picture_that_is_fed_back_costs_its_tokens(service: Service) -> None:
    body = {**TWO_PICTURES, "images": {"max": 1}}
    shown = await service.document(body)
    kept = await service.document({**TWO_PICTURES, "images": {"max": 1, "feedback": "none"}})
    config = service.engine.config
    dream, image = config.num_dream_queries + 1, config.num_image_tokens + 2
    assert shown["usage"]["image_tokens"] == dream + image
    assert kept["usage"]["image_tokens"] == dream
    assert shown["usage"]["denoising_steps"] == kept["usage"]["denoising_steps"] > 0


async def test_without_feedback_text_goes_on_while_pictures_render(service: Service) -> None:
    events = await service.events({**TWO_PICTURES, "images": {"feedback": "none", "steps": 60}})
    seen = names(events)
    assert seen.count("image.completed") == 2
    assert seen.index("image.completed") > len(seen) - 1 - seen[::-1].index("text.delta")


async def test_a_picture_of_the_user_is_read_patch_by_patch(service: Service) -> None:
    question = {"type": "text", "text": "What is the background?"}
    picture = draw(Scene("white", (Shape("circle", "red", "big", "center"),)))
    url = {"type": "image_url", "image_url": {"url": data_url(picture)}}
    alone = await service.document({"input": [question], "temperature": 0})
    shown = await service.document({"input": [url, question], "temperature": 0})
    patches = service.engine.config.num_image_tokens
    assert shown["usage"]["prompt_tokens"] >= alone["usage"]["prompt_tokens"] + patches + 2
    assert "background" in text(shown)


async def test_max_tokens_ends_a_document_in_the_middle(service: Service) -> None:
    document = await service.document({"input": "Hello.", "temperature": 0, "max_tokens": 3})
    assert document["finish_reason"] == "length"
    assert document["usage"]["length_limit"] == "max_tokens"
    assert document["usage"]["completion_tokens"] == 3


async def test_no_room_for_another_picture_ends_the_document_well(service: Service) -> None:
    room = service.engine.max_model_len
    filler = "Tell me a story about a red star. " * 400
    ids = service.engine.tokenizer.encode(filler, add_special_tokens=False).ids
    prompt = filler[: len(filler) * (room - 40) // len(ids)] + " Draw a red circle."
    document = await service.document({"input": prompt, "temperature": 0, "max_tokens": 1000})
    assert document["finish_reason"] == "length"
    assert document["usage"]["length_limit"] == "context"
    used = document["usage"]
    assert used["prompt_tokens"] + used["completion_tokens"] + used["image_tokens"] <= room


async def test_a_prompt_that_is_too_long_is_refused_before_anything_starts(service: Service) -> None:
    body = {"input": "Draw a red circle. " * 2000, "stream": True}
    response = await service.client.post("/v1/interleaved", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input"


async def test_stop_strings_end_the_document(service: Service) -> None:
    document = await service.document({**TWO_PICTURES, "stop": ["circle"]})
    assert "circle" not in text(document)
    assert document["finish_reason"] == "stop"
    assert pictures(document) == []


async def test_previews_come_on_the_way_and_change_nothing(service: Service) -> None:
    plain = await service.document({**TWO_PICTURES, "images": {"max": 1}})
    events = await service.events({**TWO_PICTURES, "images": {"max": 1, "previews": 2}})
    seen = names(events)
    assert seen.count("image.preview") == 2
    completed = json.loads(events[seen.index("image.completed")].data)
    assert completed["image"] == pictures(plain)[0]


async def test_a_client_that_leaves_during_a_picture_leaves_nothing_behind(service: Service) -> None:
    body = {**TWO_PICTURES, "stream": True, "images": {"steps": 250}}
    async with service.client.stream("POST", "/v1/interleaved", json=body) as response:
        async for line in response.aiter_lines():
            if line == "event: image.progress":
                break
    async with asyncio.timeout(30):
        while (await service.pool.load()).running or service.engine.llm.get_num_unfinished_requests():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_requests_at_the_same_time_give_what_each_gives_alone(service: Service) -> None:
    bodies = [{"input": f"Draw a {color} star.", "temperature": 0, "seed": 5} for color in list(COLORS)[:4]]
    together = await asyncio.gather(*(service.document(body) for body in bodies))
    alone = [await service.document(body) for body in bodies]
    for one, other in zip(together, alone, strict=True):
        assert text(one) == text(other)
        for a, b in zip(pictures(one), pictures(other), strict=True):
            assert np.abs(pixels(a).astype(int) - pixels(b)).max() <= 2


async def test_of_64_requests_at_least_80_percent_show_the_color_and_the_shape(service: Service) -> None:
    asked = [(color, kind) for _ in range(2) for color in COLORS for kind in KINDS]
    at_once = asyncio.Semaphore(8)

    async def shows(seed: int, color: str, kind: str) -> bool:
        body = {"input": f"Draw a {color} {kind}.", "seed": seed, "images": {"max": 1}}
        async with at_once:
            document = await service.document(body)
        drawn = [judge(pixels(image)).shapes for image in pictures(document)]
        return any((shape.color, shape.kind) == (color, kind) for shapes in drawn for shape in shapes)

    shown = await asyncio.gather(*(shows(seed, *request) for seed, request in enumerate(asked)))
    missed = Counter(request for request, right in zip(asked, shown, strict=True) if not right)
    assert len(shown) == 64
    assert sum(shown) / len(shown) >= 0.8, missed


async def test_metrics_of_vllm_and_of_the_service_move(service: Service) -> None:
    async def value(name: str) -> float:
        lines = (await service.client.get("/metrics")).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    watched = ("vllm:generation_tokens_total", "dreamserve_images_total", "dreamserve_documents_total")
    before = [await value(name) for name in watched]
    await service.document({**TWO_PICTURES, "images": {"max": 1}})
    after = [await value(name) for name in watched]
    assert all(b < a for b, a in zip(before, after, strict=True))


async def test_the_model_and_its_health_are_told(service: Service) -> None:
    models = (await service.client.get("/v1/models")).json()
    assert models["data"][0]["id"] == "dreamllm-tiny"
    assert (await service.client.get("/health/ready")).json() == {"status": "ready"}
    assert (await service.client.get("/health/live")).status_code == 200
