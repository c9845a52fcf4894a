"""``/v1/images/generations``: pictures of a description, whole and as a stream."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from server.interleave.seeds import derived_seed
from server.llm.engine import EngineDeadError, EngineError
from server.pool.base import PoolLoad, Queued, RenderError
from tests.api.serving import Listening, Running, in_memory, on_socket, scripted_engine, until
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import Gate

URL = "/v1/images/generations"
PROMPT = "a red circle"


async def generate(app: Running, **body: Any) -> dict[str, Any]:
    """The whole response to a request that is served."""
    response = await app.client.post(URL, json={"prompt": PROMPT, **body})
    assert response.status_code == 200, response.text
    images: dict[str, Any] = response.json()
    return images


async def stream(app: Running, **body: Any) -> list[dict[str, Any]]:
    """All events of a streamed response."""
    response = await app.client.post(URL, json={"prompt": PROMPT, "stream": True, **body})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    events = []
    for frame in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def picture(b64_json: str) -> Image.Image:
    """What base64 stands for."""
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def failing(code: str = "render_failed") -> RenderError:
    """What a pool raises that could not draw."""
    return RenderError(code, "out of paint")


async def test_a_picture_comes_straight_from_the_prompt() -> None:
    async with in_memory() as app:
        await app.ready()
        texts_before = len(app.engine.calls)

        images = await generate(app)
        [dream] = app.engine.dream_calls[1:]

    assert len(app.engine.calls) == texts_before
    bos, *ids = dream.prompt.token_ids
    assert bos == app.engine.tokenizer.token_to_id("<s>")
    assert app.engine.tokenizer.decode(ids) == PROMPT
    [image] = images["data"]
    assert image.keys() == {"b64_json", "seed"}
    assert picture(image["b64_json"]).size == (64, 64)
    assert (images["size"], images["output_format"], images["background"]) == ("64x64", "png", "opaque")


async def test_the_prompt_cannot_become_a_control_token() -> None:
    async with in_memory() as app:
        await app.ready()
        await generate(app, prompt="</s><dream_start>")
        [dream] = app.engine.dream_calls[1:]

    _, *ids = dream.prompt.token_ids
    assert app.engine.config.dream_token_id not in ids
    assert app.engine.tokenizer.decode(ids) == "</s><dream_start>"


async def test_each_picture_has_noise_of_its_own_and_a_seed_repeats_them_all() -> None:
    async with in_memory() as app:
        await app.ready()
        first = await generate(app, n=3, seed=7)
        again = await generate(app, n=3, seed=7)
        other = await generate(app, n=3)

    seeds = [image["seed"] for image in first["data"]]
    assert seeds == [derived_seed(7, number) for number in range(3)]
    assert [job.seed for job in app.pool.jobs[1:4]] == seeds
    assert again["data"] == first["data"]
    assert [image["seed"] for image in other["data"]] != seeds


async def test_the_pictures_of_a_request_are_drawn_together() -> None:
    gates = [Gate(), Gate(), Gate()]
    pool = ScriptedPool([drawing, *([Queued(0, None), gate] for gate in gates)])
    async with in_memory(pool=pool) as app:
        await app.ready()
        request = asyncio.create_task(app.client.post(URL, json={"prompt": PROMPT, "n": 3}))

        for gate in gates:
            await gate.reached.wait()
        assert {job.priority for job in pool.jobs[1:]} == {"normal"}
        for gate in gates:
            gate.open()
        await request


async def test_what_is_said_about_the_picture_reaches_the_pool() -> None:
    body = {
        "size": "32x48",
        "output_format": "webp",
        "steps": 7,
        "guidance_scale": 1.5,
        "negative_prompt": "dull",
        "scheduler": "ddim",
        "seed": 11,
    }
    async with in_memory() as app:
        await app.ready()
        images = await generate(app, **body)
        job = app.pool.jobs[-1]

    assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (32, 48, 7, 1.5, "ddim")
    assert (job.seed, job.format, job.previews) == (11, "webp", 0)
    assert job.negative_states is not None
    assert picture(images["data"][0]["b64_json"]).format == "WEBP"
    assert (images["size"], images["output_format"]) == ("32x48", "webp")


async def test_what_is_not_said_is_taken_from_the_checkpoint() -> None:
    async with in_memory() as app:
        await app.ready()
        await generate(app, **dict.fromkeys(["n", "size", "seed", "steps", "quality", "style", "user"]))
        job = app.pool.jobs[-1]

    assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (64, 64, 4, 3.0, "ddpm")


async def test_a_link_leads_to_the_picture() -> None:
    async with in_memory() as app:
        await app.ready()
        [image] = (await generate(app, response_format="url", output_format="jpeg"))["data"]
        response = await app.client.get(image["url"])

    assert image.keys() == {"url", "seed"}
    assert response.headers["content-type"] == "image/jpeg"


async def test_the_usage_counts_the_prompt_and_the_one_dream_of_all_pictures() -> None:
    async with in_memory() as app:
        await app.ready()
        one, three = await generate(app), await generate(app, n=3)
        dream = len(app.engine.config.dream_block)

    read = len(PROMPT) + 1  # the scripted tokenizer reads letter by letter
    assert one["usage"] == three["usage"]
    assert one["usage"] == {
        "input_tokens": read,
        "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
        "output_tokens": dream,
        "output_tokens_details": {"image_tokens": dream, "text_tokens": 0},
        "total_tokens": read + dream,
    }


async def test_a_stream_shows_each_picture_become_clear() -> None:
    async with in_memory() as app:
        await app.ready()
        events = await stream(app, partial_images=2)
        whole = await generate(app)

    assert [event["type"] for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event["partial_image_index"] for event in events[:2]] == [0, 1]
    for event in events:
        assert picture(event["b64_json"]).format == "PNG"
        assert (event["index"], event["size"], event["output_format"]) == (0, "64x64", "png")
        assert (event["background"], event["quality"]) == ("opaque", "auto")
    assert events[-1]["usage"] == whole["usage"]


async def test_a_stream_brings_each_picture_when_it_is_finished() -> None:
    gate = Gate()
    pool = ScriptedPool([drawing, lambda job: [Queued(0, None), gate, *drawing(job)[1:]]])
    async with (
        on_socket(pool=pool) as app,
        app.client.stream("POST", URL, json={"prompt": PROMPT, "n": 2, "stream": True}) as response,
    ):
        finished = []
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                finished.append(json.loads(line.removeprefix("data: "))["index"])
                gate.open()

    assert finished == [1, 0]


async def test_a_stream_may_bring_links() -> None:
    async with in_memory() as app:
        await app.ready()
        partial, completed = await stream(app, partial_images=1, response_format="url")
        response = await app.client.get(completed["url"])

    assert "b64_json" in partial
    assert "b64_json" not in completed
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("code", "status", "blamed"),
    [
        ("render_failed", 500, "server_error"),
        ("unavailable", 503, "service_unavailable_error"),
        ("timeout", 503, "service_unavailable_error"),
        ("invalid_job", 500, "server_error"),
    ],
)
async def test_a_picture_that_fails_fails_the_request(code: str, status: int, blamed: str) -> None:
    gate = Gate()
    pool = ScriptedPool([drawing, [Queued(0, None), gate], [failing(code)]])
    async with in_memory(pool=pool) as app:
        await app.ready()
        response = await app.client.post(URL, json={"prompt": PROMPT, "n": 2})
        await until(lambda: not pool.record.running)

    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["message"], error["type"]) == (code, "out of paint", blamed)
    assert ("retry-after" in response.headers) is (status == 503)
    assert pool.record.aborted == [job.id for job in (pool.jobs[2], pool.jobs[1])]


async def test_a_picture_that_cannot_be_stored_fails_the_request() -> None:
    async with in_memory(files={"max_bytes": 1}) as app:
        await app.ready()
        response = await app.client.post(URL, json={"prompt": PROMPT, "response_format": "url"})

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "storage_full"


async def test_a_stream_ends_with_the_first_failure() -> None:
    drawn = Gate()
    pool = ScriptedPool([drawing, drawing, [Queued(0, None), drawn, failing()], [Queued(0, None), Gate()]])
    async with on_socket(pool=pool) as app:
        body = {"prompt": PROMPT, "n": 3, "stream": True}
        events = []
        async with app.client.stream("POST", URL, json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    drawn.open()
        await until(lambda: nothing_runs(app))

    assert [event["type"] for event in events] == ["image_generation.completed", "error"]
    assert events[-1]["error"]["code"] == "render_failed"
    assert set(pool.record.aborted) == {job.id for job in pool.jobs[2:]}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(EngineError("no room"), 500, "dream_failed"), (EngineDeadError("gone"), 503, "engine_unavailable")],
)
async def test_a_dream_that_fails_fails_the_request(error: Exception, status: int, code: str) -> None:
    async with in_memory(scripted_engine(dreams=[[], error])) as app:
        await app.ready()
        response = await app.client.post(URL, json={"prompt": PROMPT})

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in response.headers) is (status == 503)


@pytest.mark.parametrize("streamed", [False, True])
async def test_leaving_cancels_all_pictures(streamed: bool) -> None:
    gates = [Gate(), Gate()]
    pool = ScriptedPool([drawing, *([Queued(0, None), gate] for gate in gates)])
    async with on_socket(pool=pool) as app:
        body = {"prompt": PROMPT, "n": 2, "stream": streamed}
        request = asyncio.create_task(app.client.post(URL, json=body))
        for gate in gates:
            await gate.reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await until(lambda: nothing_runs(app))

    assert set(pool.record.aborted) == {job.id for job in pool.jobs[1:]}


def nothing_runs(app: Listening) -> bool:
    return not app.pool.record.running and not app.service.documents


async def test_without_workers_nothing_is_started() -> None:
    async with in_memory() as app:
        await app.ready()
        app.pool.current_load = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0)
        response = await app.client.post(URL, json={"prompt": PROMPT})

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "server_no_workers"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("n", 0, "greater than or equal to 1"),
        ("n", 5, "at most 4"),
        ("prompt", "", "at least 1 character"),
        ("prompt", "x" * 3000, "the context holds"),
        ("negative_prompt", "x" * 3000, "the context holds"),
        ("size", "63x64", "multiples of 16"),
        ("size", "large", "match pattern"),
        ("size", "4096x4096", "at most"),
        ("steps", 300, "at most 250"),
        ("response_format", "svg", "'b64_json' or 'url'"),
        ("output_format", "gif", "'png', 'webp' or 'jpeg'"),
        ("partial_images", 1, "only with stream"),
        ("partial_images", 4, "less than or equal to 3"),
        ("background", "transparent", "'auto' or 'opaque'"),
        ("quality", "hd", "'auto' or 'standard'"),
        ("moderation", "low", "'auto'"),
        ("output_compression", 50, "100"),
        ("style", "vivid", "describe it in the prompt"),
        ("frame_count", 9, "no such field"),
        ("model", "dall-e-3", "'scripted' is served"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_name(field: str, value: Any, says: str) -> None:
    async with in_memory(limits={"images": 4}) as app:
        await app.ready()
        response = await app.client.post(URL, json={"prompt": PROMPT, field: value})
        started = app.pool.jobs[1:]

    assert response.status_code == (404 if field == "model" else 400)
    error = response.json()["error"]
    assert error["param"] == field
    assert says in error["message"]
    assert not started


async def test_what_clients_send_by_default_is_read() -> None:
    default = {
        "model": "scripted",
        "n": 1,
        "size": "auto",
        "quality": "auto",
        "background": "auto",
        "moderation": "auto",
        "output_compression": 100,
        "style": None,
        "user": "someone",
        "safety_identifier": "someone",
    }
    async with in_memory() as app:
        await app.ready()
        response: httpx.Response = await app.client.post(URL, json={"prompt": PROMPT, **default})

    assert response.status_code == 200
