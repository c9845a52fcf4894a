"""Checks of content, as every surface shows them: refused prompts, refused pictures, refused previews."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from PIL import Image

from server.availability import State
from server.pool.base import Completed, Preview, Progress, Queued, RenderJob
from tests.api.serving import Running, in_memory, scripted_engine, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import JobItem, ScriptedPool, drawing, rendered
from tests.scripted.script import DREAM, EOS

CHECKS = "tests.guard.example_checks"
RED_REFUSED = {"image": f"{CHECKS}:RedPictures"}
WORD_REFUSED = {"prompt": f"{CHECKS}:ForbiddenWord"}
GREY = (90, 90, 90)

CHAT = {"messages": [{"role": "user", "content": "Draw."}]}


def one_picture() -> ScriptedEngine:
    """An engine that writes, asks for a picture, and goes on."""
    return scripted_engine(["Look: ", DREAM], ["That was it.", EOS])


def picture_url(colour: str) -> str:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(encoded, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def said(*parts: dict[str, Any] | str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": parts[0] if len(parts) == 1 else list(parts)}


def nothing_started(app: Running) -> bool:
    """Whether there was nothing but the warm-up."""
    return len(app.engine.calls) == len(app.pool.jobs) == 1 and not app.service.documents


PROMPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "input": ("/v1/interleaved", {"input": "forbidden"}),
    "streamed": ("/v1/interleaved", {"input": "forbidden", "stream": True}),
    "stored": ("/v1/interleaved", {"input": "forbidden", "store": True}),
    "negative prompt": ("/v1/interleaved", {"input": "a", "images": {"negative_prompt": "forbidden"}}),
    "picture": ("/v1/interleaved", {"input": [{"type": "input_image", "image_url": picture_url("red")}]}),
    "chat": ("/v1/chat/completions", {"messages": [said("forbidden")]}),
    "system": ("/v1/chat/completions", {"messages": [said("forbidden", role="system"), said("a")]}),
    "earlier answer": (
        "/v1/chat/completions",
        {"messages": [said("a"), said("forbidden", role="assistant"), said("b")]},
    ),
    "response": ("/v1/responses", {"input": "forbidden", "stream": True}),
    "instructions": ("/v1/responses", {"input": "a", "instructions": "forbidden"}),
    "images": ("/v1/images/generations", {"prompt": "forbidden"}),
    "images streamed": ("/v1/images/generations", {"prompt": "forbidden", "stream": True}),
    "images' negative prompt": ("/v1/images/generations", {"prompt": "a", "negative_prompt": "forbidden"}),
}


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_refused_prompt_is_a_bad_request_and_nothing_is_started(name: str) -> None:
    path, body = PROMPTS[name]
    async with in_memory(checks=WORD_REFUSED) as app:
        await app.ready()
        response = await app.client.post(path, json=body)
        assert nothing_started(app)

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("content_policy_violation", "invalid_request_error")
    assert "forbidden" not in error["message"]


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_check_of_prompts_that_breaks_lets_nothing_pass(name: str) -> None:
    path, body = PROMPTS[name]
    async with in_memory(checks={"prompt": f"{CHECKS}:Breaking"}) as app:
        await app.ready()
        response = await app.client.post(path, json=body)
        assert nothing_started(app)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "check_failed"
    assert response.headers["retry-after"]


async def test_a_prompt_that_passes_is_answered() -> None:
    async with in_memory(checks=WORD_REFUSED) as app:
        await app.ready()
        response = await app.client.post("/v1/interleaved", json={"input": "allowed"})
    assert response.status_code == 200


async def answered(path: str, body: dict[str, Any], **settings: Any) -> tuple[Running, httpx.Response]:
    """The response, whole or all of its stream, of a server that refuses red pictures: all that the pool draws."""
    async with in_memory(one_picture(), checks=RED_REFUSED, **settings) as app:
        await app.ready()
        response = await app.client.post(path, json=body)
        await until(lambda: not app.service.documents)
    return app, response


def holds_a_picture(response: httpx.Response) -> bool:
    """Whether a PNG is anywhere in a response, as it is or in base64."""
    return base64.b64encode(b"\x89PNG\r\n").decode() in response.text or "/v1/files/images/" in response.text


@pytest.mark.parametrize("delivery", ["inline", "url"])
async def test_a_refused_picture_fails_its_part_and_the_text_goes_on(delivery: str) -> None:
    _, response = await answered("/v1/interleaved", {"input": "Draw.", "images": {"delivery": delivery}})

    document = response.json()
    before, failed, after = document["parts"]
    assert (before["text"], after["text"]) == ("Look: ", "That was it.")
    assert failed["error"]["code"] == "content_filtered"
    assert document["usage"]["images"] == 0
    assert not holds_a_picture(response)


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_the_model_is_not_shown_a_refused_picture(feedback: str) -> None:
    app, _ = await answered("/v1/interleaved", {"input": "Draw.", "images": {"feedback": feedback}})

    _, first, second = app.engine.calls
    written = tuple(app.engine.tokenizer.encode("Look: ").ids)
    assert second.prompt.images == ()
    assert second.prompt.token_ids == first.prompt.token_ids + written + tuple(app.engine.config.dream_block)


async def test_a_refused_picture_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []

    async def record(_: object, id: str, data: bytes) -> None:
        put.append(id)

    monkeypatch.setattr("server.files.memory.MemoryImageStore.put", record)
    await answered("/v1/interleaved", {"input": "Draw.", "store": True, "images": {"delivery": "url"}})
    assert put == []


async def test_a_stored_document_never_holds_a_refused_picture() -> None:
    async with in_memory(one_picture(), checks=RED_REFUSED) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "Draw.", "store": True})).json()
        again = await app.client.get(f"/v1/interleaved/{document['id']}", params={"stream": True})

    assert '"content_filtered"' in again.text
    assert not holds_a_picture(again)


async def test_a_stream_tells_of_a_refused_picture_and_goes_on() -> None:
    async with in_memory(one_picture(), checks=RED_REFUSED) as app:
        await app.ready()
        events = await app.events({"input": "Draw."})

    [failed] = [event.json() for event in events if event.event == "image.failed"]
    assert failed["error"]["code"] == "content_filtered"
    assert [event.event for event in events][-1] == "document.completed"
    assert not any(event.event in ("image.preview", "image.completed") for event in events)


@pytest.mark.parametrize(
    ("image_output", "content"),
    [
        ("images", "Look: That was it."),
        ("markdown", "Look: ![image 1 failed: content_filtered]()That was it."),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_chat_tells_of_a_refused_picture(image_output: str, content: str, streamed: bool) -> None:
    body = {**CHAT, "image_output": image_output, "stream": streamed}
    _, response = await answered("/v1/chat/completions", body)

    if streamed:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        pieces = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    else:
        pieces = [response.json()["choices"][0]["message"]]
    assert "".join(piece.get("content") or "" for piece in pieces) == content
    failed = [image["error"]["code"] for piece in pieces for image in piece.get("failed_images") or ()]
    assert failed == (["content_filtered"] if image_output == "images" else [])
    assert not holds_a_picture(response)


async def test_chat_with_pictures_in_its_content_tells_of_a_refused_one_there() -> None:
    _, response = await answered("/v1/chat/completions", {**CHAT, "image_output": "content"})
    _, failed, _ = response.json()["choices"][0]["message"]["content"]
    assert failed["error"]["code"] == "content_filtered"


@pytest.mark.parametrize("streamed", [False, True])
async def test_responses_tell_of_a_refused_picture_as_a_failed_call(streamed: bool) -> None:
    _, response = await answered("/v1/responses", {"input": "Draw.", "stream": streamed})

    if streamed:
        *_, last = (line for line in response.text.splitlines() if line.startswith("data: "))
        output = json.loads(last.removeprefix("data: "))["response"]
    else:
        output = response.json()
    assert output["status"] == "completed"
    _, call, message = output["output"]
    assert (call["type"], call["status"], call["error"]["code"]) == (
        "image_generation_call",
        "failed",
        "content_filtered",
    )
    assert call["result"] is None
    assert message["content"][0]["text"] == "That was it."
    assert not holds_a_picture(response)


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
async def test_images_with_a_refused_one_are_refused_in_the_words_of_openai(response_format: str) -> None:
    _, response = await answered("/v1/images/generations", {"prompt": "a", "n": 2, "response_format": response_format})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("content_policy_violation", "invalid_request_error")
    assert not holds_a_picture(response)


async def test_a_stream_of_images_ends_with_the_refusal() -> None:
    _, response = await answered("/v1/images/generations", {"prompt": "a", "stream": True, "partial_images": 1})

    *_, last = (line for line in response.text.splitlines() if line.startswith("data: "))
    error = json.loads(last.removeprefix("data: "))
    assert error["type"] == "error"
    assert (error["error"]["code"], error["error"]["type"]) == ("content_policy_violation", "invalid_request_error")


async def test_pictures_that_cannot_be_checked_may_be_asked_for_again() -> None:
    async with in_memory(checks={"image": f"{CHECKS}:Breaking"}) as app:
        await app.ready()
        response = await app.client.post("/v1/images/generations", json={"prompt": "a"})

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "check_failed"


def previews(job: RenderJob) -> Sequence[JobItem]:
    """A job whose second preview is red."""
    grey, red = rendered(job, GREY), rendered(job)
    return [Queued(0, None), Preview(0, grey), Preview(1, red), Progress(3, 4), Preview(2, grey), Completed(grey)]


async def test_a_refused_preview_is_left_out_and_later_ones_that_pass_are_shown() -> None:
    async with in_memory(one_picture(), ScriptedPool([drawing, previews]), checks=RED_REFUSED) as app:
        await app.ready()
        events = await app.events({"input": "Draw.", "images": {"previews": 3}})

    shown = [event.json() for event in events if event.event == "image.preview"]
    assert [preview["index"] for preview in shown] == [0, 2]
    assert sum(event.event == "image.completed" for event in events) == 1


async def test_the_example_that_ships_is_named_in_the_settings() -> None:
    async with in_memory(one_picture(), checks={"image": "server.guard.flat_pictures:FlatPictures"}) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "Draw."})).json()

    assert document["parts"][1]["error"]["code"] == "content_filtered"


async def test_a_server_whose_check_cannot_be_loaded_takes_no_requests(caplog: pytest.LogCaptureFixture) -> None:
    async with in_memory(checks={"image": f"{CHECKS}:unloadable"}) as app:
        await until(lambda: app.service.state is State.FAILED)
        response = await app.client.post("/v1/interleaved", json={"input": "a"})

    assert response.status_code == 503
    assert "checks.image" in caplog.text
