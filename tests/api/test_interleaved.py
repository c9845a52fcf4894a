"""``/v1/interleaved``: the document whole and as a stream."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from server.pool.base import RenderError
from server.schema.interleaved import ImageOptions, InterleavedRequest
from tests.api.serving import in_memory, scripted_engine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])


def data_url(format: str = "png") -> str:
    encoded = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(encoded, format=format)
    return f"data:image/{format};base64,{base64.b64encode(encoded.getvalue()).decode()}"


async def test_the_parts_of_a_document_come_in_order() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()

        response = await app.client.post("/v1/interleaved", json={"input": "Show me.", "seed": 1})

    assert response.status_code == 200
    document = response.json()
    assert document["object"] == "interleaved.document"
    assert document["model"] == "scripted"
    assert document["finish_reason"] == "stop"
    assert [part["type"] for part in document["parts"]] == ["text", "image", "text", "image", "text"]
    assert [part["text"] for part in document["parts"][::2]] == ["Look: ", " A cat, and ", "the end."]
    for part in document["parts"][1::2]:
        assert part.keys() == {"type", "image"}
        picture = Image.open(io.BytesIO(base64.b64decode(part["image"]["b64_json"])))
        assert picture.size == (part["image"]["width"], part["image"]["height"]) == (64, 64)
        assert picture.format == "PNG"
    usage = document["usage"]
    assert usage["images"] == 2
    assert usage["denoising_steps"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] + usage["image_tokens"]


async def test_events_carry_their_name_and_number() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()

        events = await app.events({"input": "Show me.", "images": {"previews": 1}})

    assert [event.id for event in events] == [str(n) for n in range(len(events))]
    for event in events:
        payload = event.json()
        assert event.event == payload["type"]
        assert event.id == str(payload["sequence"])
    names = [event.event for event in events]
    assert names[0] == "document.started"
    assert names[-1] == "document.completed"
    picture = [event.event for event in events if event.json().get("part") == 1]
    assert picture[0] == "image.queued"
    assert picture[-1] == "image.completed"
    assert set(picture[1:-1]) == {"image.progress", "image.preview"}


async def test_a_stream_is_lines_that_any_reader_of_events_understands() -> None:
    async with in_memory(scripted_engine(["a\r\nb\nc\rd", EOS])) as app:
        await app.ready()

        response = await app.client.post("/v1/interleaved", json={"input": "x", "stream": True})

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    frames = response.text.removesuffix("\n\n").split("\n\n")
    for number, frame in enumerate(frames):
        id_line, event_line, data_line = frame.split("\n")
        assert id_line == f"id: {number}"
        assert event_line.startswith("event: ")
        assert json.loads(data_line.removeprefix("data: "))["sequence"] == number


async def test_the_json_is_what_the_stream_adds_up_to() -> None:
    body = {"input": "Show me.", "seed": 3, "images": {"format": "webp"}}
    async with in_memory(scripted_engine(*STORY, *STORY)) as app:
        await app.ready()
        whole = (await app.client.post("/v1/interleaved", json=body)).json()
        events = [event.json() for event in await app.events(body)]

    assert events[0]["model"] == whole["model"]
    assert assembled(events) == whole["parts"]
    assert events[-1]["finish_reason"] == whole["finish_reason"]
    assert events[-1]["usage"] == whole["usage"]


def assembled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts: dict[int, dict[str, Any]] = {}
    for event in events:
        match event["type"]:
            case "text.delta":
                part = parts.setdefault(event["part"], {"type": "text", "text": ""})
                part["text"] += event["text"]
            case "image.completed":
                parts[event["part"]] = {"type": "image", "image": event["image"]}
            case "image.failed":
                parts[event["part"]] = {"type": "image", "error": event["error"]}
    return [parts[index] for index in sorted(parts)]


async def test_a_picture_that_fails_leaves_its_reason_in_its_place() -> None:
    engine = scripted_engine(["Look: ", DREAM], ["Sorry.", EOS])
    failing = [RenderError("render_failed", "out of paint")]
    async with in_memory(engine, ScriptedPool([lambda job: [], failing])) as app:
        await app.ready()

        document = (await app.client.post("/v1/interleaved", json={"input": "Show me."})).json()

    assert [part["type"] for part in document["parts"]] == ["text", "image", "text"]
    assert document["parts"][1] == {"type": "image", "error": {"code": "render_failed", "message": "out of paint"}}
    assert document["finish_reason"] == "stop"


async def test_what_is_not_said_is_taken_from_the_checkpoint() -> None:
    async with in_memory(scripted_engine(["", DREAM], [EOS])) as app:
        await app.ready()
        await app.client.post("/v1/interleaved", json={"input": "Show me."})
        job = app.pool.jobs[-1]

    assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (64, 64, 4, 3.0, "ddpm")
    assert (job.format, job.previews) == ("png", 0)


async def test_how_text_is_sampled_is_the_checkpoints_choice_unless_the_request_says() -> None:
    async with in_memory() as app:
        await app.ready()

        await app.client.post("/v1/interleaved", json={"input": "Show me."})
        await app.client.post("/v1/interleaved", json={"input": "x", "temperature": 0, "top_p": 0.2, "top_k": 0})
        await app.client.post("/v1/interleaved", json={"input": "x", "top_k": -1})  # vLLM's other name for all tokens

    chosen = [(c.sampling.temperature, c.sampling.top_p, c.sampling.top_k) for c in app.engine.calls[-3:]]
    assert chosen == [(0.5, 0.9, 40), (0, 0.2, 0), (0.5, 0.9, 0)]


async def test_what_is_said_about_sampling_reaches_the_model() -> None:
    said = {"min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": -0.5}
    async with in_memory() as app:
        await app.ready()

        await app.client.post("/v1/interleaved", json={"input": "x"})
        await app.client.post("/v1/interleaved", json={"input": "x", **said})

    unsaid, chosen = ({name: getattr(c.sampling, name) for name in said} for c in app.engine.calls[-2:])
    assert unsaid == {"min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    assert chosen == said


async def test_what_is_said_about_pictures_reaches_the_pool() -> None:
    images = {
        "size": "32x48",
        "steps": 7,
        "guidance_scale": 1.5,
        "negative_prompt": "dull",
        "scheduler": "ddim",
        "seed": 11,
        "format": "jpeg",
        "previews": 2,
    }
    async with in_memory(scripted_engine(["", DREAM], [EOS])) as app:
        await app.ready()
        events = await app.events({"input": "Show me.", "images": images})
        job = app.pool.jobs[-1]

    assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (32, 48, 7, 1.5, "ddim")
    assert (job.format, job.previews) == ("jpeg", 2)
    assert job.negative_states is not None
    assert next(event.json() for event in events if event.event == "image.completed")["image"]["seed"] == job.seed


async def test_a_document_that_is_not_streamed_has_no_previews_drawn() -> None:
    async with in_memory(scripted_engine(["", DREAM], [EOS])) as app:
        await app.ready()
        await app.client.post("/v1/interleaved", json={"input": "Show me.", "images": {"previews": 2}})

    assert app.pool.jobs[-1].previews == 0


async def test_null_is_the_default_of_whatever_has_one() -> None:
    image = {"type": "image_url", "image_url": {"url": data_url(), "detail": None}}
    options = dict.fromkeys(ImageOptions.model_fields)
    body = dict.fromkeys(InterleavedRequest.model_fields) | {"input": [image]}
    async with in_memory(scripted_engine(["", DREAM], [EOS], ["", DREAM], [EOS])) as app:
        await app.ready()
        responses = [await app.client.post("/v1/interleaved", json={**body, "images": i}) for i in (None, options)]

    assert [response.status_code for response in responses] == [200, 200]
    assert [(job.previews, job.format, job.steps) for job in app.pool.jobs[-2:]] == [(0, "png", 4)] * 2


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": data_url()}},
        {"type": "image_url", "image_url": {"url": data_url("webp"), "detail": "low"}},
        {"type": "input_image", "image_url": data_url()},
    ],
)
async def test_pictures_of_a_request_reach_the_model_in_their_place(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "What is"}, part, {"type": "input_text", "text": "this?"}]
    async with in_memory(scripted_engine(["Red.", EOS])) as app:
        await app.ready()
        response = await app.client.post("/v1/interleaved", json={"messages": [{"role": "user", "content": content}]})
        prompt = app.engine.calls[-1].prompt

    assert response.status_code == 200
    assert len(prompt.images) == 1
    assert prompt.images[0].pixels.size == (40, 30)
    text = app.engine.tokenizer.decode(list(prompt.token_ids), skip_special_tokens=False)
    assert text.index("What is") < text.index("<im_patch>") < text.index("this?")


async def test_stop_may_be_one_text_or_several() -> None:
    async with in_memory(scripted_engine(["one two", EOS], ["one two", EOS])) as app:
        await app.ready()
        one = (await app.client.post("/v1/interleaved", json={"input": "a", "stop": " two"})).json()
        several = (await app.client.post("/v1/interleaved", json={"input": "a", "stop": ["zero", " two"]})).json()

    assert one["parts"] == several["parts"] == [{"type": "text", "text": "one"}]


async def test_default_max_tokens_applies_to_requests_without_one() -> None:
    async with in_memory(scripted_engine(["abcdef", EOS], ["abcdef", EOS]), limits={"default_max_tokens": 3}) as app:
        await app.ready()
        default = (await app.client.post("/v1/interleaved", json={"input": "a"})).json()
        given = (await app.client.post("/v1/interleaved", json={"input": "a", "max_tokens": 5})).json()

    assert default["parts"][0]["text"] == "abc"
    assert (default["finish_reason"], default["usage"]["length_limit"]) == ("length", "max_tokens")
    assert given["parts"][0]["text"] == "abcde"


async def test_every_response_has_the_id_of_its_request() -> None:
    async with in_memory(scripted_engine()) as app:
        await app.ready()
        given = await app.client.get("/v1/models", headers={"X-Request-Id": "abc-123"})
        made = await app.client.get("/v1/models")
        unsafe = await app.client.get("/v1/models", headers={"X-Request-Id": "a b\tc"})

    assert given.headers["x-request-id"] == "abc-123"
    assert made.headers["x-request-id"].startswith("req_")
    assert unsafe.headers["x-request-id"].startswith("req_")
