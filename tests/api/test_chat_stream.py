"""``/v1/chat/completions`` as a stream: chunks that any client of OpenAI's reads, and pictures among them."""

import asyncio
import json
import re
from contextlib import aclosing
from typing import Any

import pytest
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletionChunk

from server.pool.base import Completed, Queued, RenderError, RenderJob
from tests.api.chatting import QUESTION, URL, answer, chat, chunks, deltas, live_deltas, text_of
from tests.api.serving import in_memory, on_socket, scripted_engine, until
from tests.scripted.pool import JobItem, ScriptedPool, rendered
from tests.scripted.script import DREAM, EOS, Gate

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
IMAGE_OUTPUTS = ["images", "content", "markdown"]


def held(gate: Gate) -> Any:
    """A job that waits at a gate."""

    def script(job: RenderJob) -> list[JobItem]:
        return [Queued(0, None), gate, Completed(rendered(job))]

    return script


def drawn_job(job: RenderJob) -> list[JobItem]:
    """A job that succeeds."""
    return [Queued(0, None), Completed(rendered(job))]


async def test_chunks_have_openais_shape() -> None:
    async with in_memory(scripted_engine(["Hello.", EOS])) as app:
        await app.ready()
        stream = await chunks(app)

    for chunk in stream:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert chunk.keys() == {"id", "object", "created", "model", "choices"}
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "scripted"
    assert len({chunk["id"] for chunk in stream}) == 1
    assert stream[0]["id"].startswith("chatcmpl-")
    first, *_, last = (chunk["choices"][0] for chunk in stream)
    assert first == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert "".join(delta["content"] for delta in deltas(stream)) == "Hello."


async def test_a_stream_is_lines_that_any_reader_of_events_understands() -> None:
    async with in_memory(scripted_engine(["a\r\nb\nc\rd\u2028e", EOS])) as app:
        await app.ready()
        response = await app.client.post(URL, json={"messages": QUESTION, "stream": True})

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-document-id"].startswith("chatcmpl-")
    events = response.text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event and "\r" not in event for event in events)
    assert events[-1] == "data: [DONE]"


@pytest.mark.parametrize("image_output", IMAGE_OUTPUTS)
async def test_the_message_is_what_openais_client_adds_the_deltas_up_to(image_output: str) -> None:
    body = {"image_output": image_output, "seed": 3, "logprobs": True}
    failing = [RenderError("render_failed", "out of paint")]
    pool = ScriptedPool([drawn_job, drawn_job, failing, drawn_job, failing])
    async with in_memory(scripted_engine(*STORY, *STORY), pool) as app:
        await app.ready()
        stream = await chunks(app, **body)
        whole = (await chat(app, **body))["choices"][0]

    message: dict[object, object] = {}
    for delta in deltas(stream):
        message = accumulate_delta(message, delta)
    assert {**message, "refusal": None} == whole["message"]
    logprobs = [chunk["choices"][0]["logprobs"] for chunk in stream]
    assert [token for told in logprobs if told for token in told["content"]] == whole["logprobs"]["content"]


async def test_content_in_parts_begins_with_a_part() -> None:
    async with in_memory(scripted_engine([DREAM], [EOS], [EOS])) as app:
        await app.ready()
        (first,) = deltas(await chunks(app, image_output="content"))
        (empty,) = deltas(await chunks(app, image_output="content"))

    assert first["role"] == "assistant"
    assert first["content"][0]["type"] == "image_url"
    assert empty == {"role": "assistant"}


async def test_each_picture_tells_its_place_in_the_text() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        stream = deltas(await chunks(app))

    text = ""
    for delta in stream:
        text += delta.get("content", "")
        for image in delta.get("images", []):
            assert image["text_offset"] == len(text)
    assert [image["index"] for delta in stream for image in delta.get("images", [])] == [0, 1]


async def test_usage_comes_last_if_it_is_asked_for() -> None:
    async with in_memory(scripted_engine(*STORY, *STORY)) as app:
        await app.ready()
        *stream, last = await chunks(app, stream_options={"include_usage": True})
        whole = await chat(app)

    ChatCompletionChunk.model_validate(last, strict=True)
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in stream)


async def test_usage_so_far_comes_with_every_chunk_if_it_is_asked_for() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        stream = await chunks(app, stream_options=options)

    sampled = [chunk["usage"]["completion_tokens"] for chunk in stream]
    assert sampled == sorted(sampled)
    assert sampled[0] < sampled[-2] == sampled[-1]
    assert stream[-1]["choices"] == []


async def test_how_pictures_come_along_is_told_only_to_those_who_ask() -> None:
    images = {"previews": 1}
    async with in_memory(scripted_engine(*STORY, *STORY)) as app:
        await app.ready()
        plain = await chunks(app, images=images)
        assert app.pool.jobs[-1].previews == 0
        told = await chunks(app, images=images, stream_options={"include_image_events": True})

    assert all("image_event" not in chunk for chunk in plain)
    assert all(delta != {} for delta in deltas(plain))
    events = [chunk["image_event"] for chunk in told if "image_event" in chunk]
    assert {event["type"] for event in events} == {"image.queued", "image.progress", "image.preview"}
    assert {event["part"] for event in events} == {1, 3}
    for chunk in told:
        if "image_event" in chunk:
            ChatCompletionChunk.model_validate(chunk, strict=True)
            assert chunk["choices"][0]["delta"] == {}


async def test_beside_the_text_a_picture_holds_nothing_up() -> None:
    first, second = Gate(), Gate()
    engine = scripted_engine(["Look: ", DREAM], ["and ", DREAM], ["done.", EOS])
    seen = []
    async with on_socket(engine, ScriptedPool([drawn_job, held(first), held(second)])) as app:
        async for delta in live_deltas(app, images={"feedback": "none"}):
            seen.append(delta)
            if text_of(seen) == "Look: and done.":
                second.open()
            if "images" in delta:
                first.open()

    places = [(i["index"], i["part"], i["text_offset"]) for delta in seen for i in delta.get("images", [])]
    assert places == [(0, 3, 10), (1, 1, 6)]


@pytest.mark.parametrize("image_output", ["content", "markdown"])
async def test_in_order_the_text_waits_for_the_picture_before_it(image_output: str) -> None:
    gate = Gate()
    engine = scripted_engine(["Look: ", DREAM], ["and ", DREAM], ["done.", EOS])
    shown = ""
    async with on_socket(engine, ScriptedPool([drawn_job, held(gate)])) as app:
        async for delta in live_deltas(app, images={"feedback": "none"}, image_output=image_output):
            shown += with_marks(delta["content"])
            if shown == "Look: ":
                await until(lambda: app.pool.jobs[2:] != [] and app.pool.jobs[2].id in app.pool.record.finished)
                gate.open()

    assert shown == "Look: <picture>and <picture>done."


def with_marks(content: str | list[dict[str, Any]]) -> str:
    """Content with marks for its pictures."""
    if isinstance(content, str):
        return re.sub(r"!\[image \d\]\(data:[^)]*\)", "<picture>", content)
    return "".join(part.get("text", "<picture>") for part in content)


@pytest.mark.parametrize("image_output", IMAGE_OUTPUTS)
async def test_a_picture_in_what_may_be_a_stop_string_gets_its_place_when_that_is_known(image_output: str) -> None:
    turns = (["Look: EN", DREAM], ["joy.", EOS])
    async with in_memory(scripted_engine(*turns, *turns)) as app:
        await app.ready()
        stream = deltas(await chunks(app, stop="END", seed=1, image_output=image_output))
        whole = await answer(app, stop="END", seed=1, image_output=image_output)

    message: dict[object, object] = {}
    for delta in stream:
        message = accumulate_delta(message, delta)
    assert {**message, "refusal": None} == whole
    if image_output == "images":
        assert whole["images"][0]["text_offset"] == len("Look: EN")


async def test_a_document_that_cannot_be_finished_ends_with_an_error() -> None:
    async with in_memory(scripted_engine(["Hello", RuntimeError("broken")])) as app:
        await app.ready()
        response = await app.client.post(URL, json={"messages": QUESTION, "stream": True})

    assert response.status_code == 200
    assert "[DONE]" not in response.text
    error = json.loads(response.text.removesuffix("\n\n").split("\n\n")[-1].removeprefix("data: "))["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "internal_error", None)


async def test_leaving_a_stream_aborts_the_answer() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS])) as app:
        async with aclosing(live_deltas(app)) as stream:
            async for delta in stream:
                if delta["content"]:
                    break
            await gate.reached.wait()
        await until(lambda: not app.service.documents)

        assert len(app.engine.requests.aborted) == 1


async def test_leaving_before_the_answer_is_there_aborts_it() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS])) as app:
        request = asyncio.create_task(app.client.post(URL, json={"messages": QUESTION}))
        await gate.reached.wait()
        request.cancel()
        await until(lambda: not app.service.documents)

        assert len(app.engine.requests.aborted) == 1


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, EOS]), server={"keepalive_s": 0.01}) as app:
        lines = []
        async with app.client.stream("POST", URL, json={"messages": QUESTION, "stream": True}) as response:
            async for line in response.aiter_lines():
                lines.append(line)
                if line == ": keep-alive":
                    gate.open()

    assert ": keep-alive" in lines
    assert "data: [DONE]" in lines
