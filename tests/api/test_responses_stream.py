"""``/v1/responses`` as a stream: OpenAI's events in OpenAI's order, numbered, and the same for whoever comes back."""

import asyncio
import json
from typing import Any

import pytest

from server.interleave.journal.base import SERVER_LOST
from server.pool.base import Completed, Queued, RenderError, RenderJob
from tests.api.responding import URL, frames, message, outline, picture, read, respond, split, stored, streamed
from tests.api.serving import in_memory, on_socket, scripted_engine, until
from tests.redis_server import RedisServer
from tests.scripted.pool import JobItem, ScriptedPool, drawing, rendered
from tests.scripted.script import DREAM, EOS, Gate

STORY = (["Look: ", DREAM], [" A cat.", DREAM], ["The end.", EOS])
BEGIN = ["created", "in_progress"]


def held(gate: Gate) -> Any:
    """A job that waits at a gate."""

    def script(job: RenderJob) -> list[JobItem]:
        return [Queued(0, None), gate, Completed(rendered(job))]

    return script


async def test_events_come_in_openais_order() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        tools = [{"type": "image_generation", "partial_images": 2}]
        events = await streamed(app, tools=tools)

    parts = [*message(0), *picture(1, previews=2), *message(2), *picture(3, previews=2), *message(4)]
    assert outline(events) == [*BEGIN, *parts, "completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_the_last_event_has_the_whole_response_and_those_before_add_up_to_it() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        events = await streamed(app, include=["message.output_text.logprobs"], images={"previews": 1})
        whole = await stored(app, events[0]["response"]["id"])

    assert events[-1]["response"] == whole
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == whole["output"]
    for index, item in enumerate(whole["output"]):
        own = [event for event in events if event.get("output_index") == index]
        assert {event.get("item_id", item["id"]) for event in own} == {item["id"]}
        if item["type"] == "message":
            [part] = item["content"]
            deltas = [event for event in own if event["type"] == "response.output_text.delta"]
            assert "".join(event["delta"] for event in deltas) == part["text"]
            assert [token for event in deltas for token in event["logprobs"]] == part["logprobs"]
            assert {event["text"] for event in own if "text" in event} == {part["text"]}
    first = events[0]["response"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)


async def test_previews_are_told_with_what_they_are() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        events = await streamed(app, images={"previews": 2, "format": "webp", "delivery": "url"})

    previews = [event for event in events if "partial_image_b64" in event and event["output_index"] == 1]
    assert [event["partial_image_index"] for event in previews] == [0, 1]
    assert {(event["output_format"], event["size"]) for event in previews} == {("webp", "64x64")}


async def test_a_response_without_anything_has_a_beginning_and_an_end() -> None:
    async with in_memory(scripted_engine([EOS])) as app:
        await app.ready()
        events = await streamed(app)

    assert outline(events) == [*BEGIN, "completed"]


async def test_a_response_that_reaches_its_limit_ends_incomplete() -> None:
    async with in_memory(scripted_engine(["abcdef", EOS])) as app:
        await app.ready()
        events = await streamed(app, max_output_tokens=3)

    assert outline(events) == [*BEGIN, *message(0), "incomplete"]
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_picture_that_fails_is_an_item_that_is_done() -> None:
    pool = ScriptedPool([lambda job: [], [RenderError("render_failed", "out of paint")]])
    async with in_memory(scripted_engine([DREAM], ["Oh.", EOS]), pool) as app:
        await app.ready()
        events = await streamed(app)

    failed = ["0 output_item.added", "0 image_generation_call.in_progress", "0 output_item.done"]
    assert outline(events) == [*BEGIN, *failed, *message(1), "completed"]
    assert events[4]["item"]["error"]["code"] == "render_failed"


async def test_a_response_that_cannot_be_finished_ends_all_that_has_begun() -> None:
    async with in_memory(scripted_engine(["Look: ", RuntimeError("broken")])) as app:
        await app.ready()
        events = await streamed(app)
        whole = await stored(app, events[0]["response"]["id"])

    assert outline(events) == [*BEGIN, *message(0), "failed"]
    assert events[-1]["response"] == whole
    assert whole["status"] == "failed"
    assert whole["output"][0]["status"] == "incomplete"
    error = whole["error"]
    assert (error["code"], error["type"]) == ("server_error", "internal_error")


async def test_a_response_that_is_cancelled_ends_with_its_pictures_failed() -> None:
    gate = Gate()
    pool = ScriptedPool([lambda job: [], held(gate)])
    async with on_socket(scripted_engine(["Look: ", DREAM]), pool) as app:
        streaming = asyncio.create_task(streamed(app))
        await gate.reached.wait()
        [document] = app.service.documents
        cancelled = await app.client.post(f"{URL}/{document.id}/cancel")
        events = await streaming

    failed = ["1 output_item.added", "1 image_generation_call.in_progress", "1 output_item.done"]
    assert outline(events) == [*BEGIN, *message(0), *failed, "failed"]
    assert events[-1]["response"] == cancelled.json()
    assert (cancelled.json()["status"], cancelled.json()["error"]) == ("cancelled", None)
    assert cancelled.json()["output"][1]["status"] == "failed"


async def test_text_goes_on_while_pictures_are_drawn_that_the_model_is_not_shown() -> None:
    gates = Gate(), Gate()
    pool = ScriptedPool([lambda job: [], *map(held, gates)])
    async with in_memory(scripted_engine(["a", DREAM], ["b", DREAM], ["c", EOS]), pool) as app:
        await app.ready()
        streaming = asyncio.create_task(streamed(app, images={"feedback": "none"}))
        await gates[1].reached.wait()
        await until(lambda: len(app.engine.calls) == 4 and not app.engine.requests.running)
        gates[1].open()
        await until(lambda: len(app.pool.record.finished) == 1)
        gates[0].open()
        events = await streaming

    lines = outline(events)
    assert lines.index("4 output_text.delta") < lines.index("3 output_item.done") < lines.index("1 output_item.done")
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert added == [0, 1, 2, 3, 4]
    for part in (message(0), picture(1), message(2), picture(3), message(4)):
        assert [line for line in lines if line.split()[0] == part[0].split()[0]] == part
    whole = events[-1]["response"]
    assert [item["type"] == "message" for item in whole["output"]] == [True, False, True, False, True]


async def test_text_that_was_held_back_at_a_picture_still_comes_into_its_message() -> None:
    async with in_memory(scripted_engine(["ab STO", DREAM], ["no stop", EOS])) as app:
        await app.ready()
        events = await streamed(app, stop="STOP")

    lines = outline(events)
    late = lines.index("1 output_item.done")
    assert "0 output_text.delta" in lines[late:]
    assert lines.index("0 output_item.done") > late
    assert lines[-7:] == [*message(2), "completed"]
    dones = {event["output_index"]: event["text"] for event in events if "text" in event}
    assert dones == {0: "ab STO", 2: "no stop"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@pytest.mark.parametrize("body", [{}, {"images": {"feedback": "none"}}, {"stop": "zzz"}])
async def test_who_comes_back_after_any_event_gets_the_rest_byte_for_byte(body: dict[str, Any]) -> None:
    options = {
        "include": ["message.output_text.logprobs"],
        "tools": [{"type": "image_generation", "partial_images": 1}],
    }
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        uncut = await frames(app, **options, **body)
        path = f"{URL}/{read(uncut)[0]['response']['id']}"
        again = await app.client.get(path, params={"stream": True})
        assert split(again.text) == uncut
        for seen in range(len(uncut) - 1):
            rest = await app.client.get(path, params={"stream": True, "starting_after": seen})
            assert split(rest.text) == uncut[seen + 1 :]
        after_all = await app.client.get(path, params={"stream": True, "starting_after": len(uncut) - 1})

    assert after_all.text == ""


async def test_who_was_cut_off_goes_on_at_another_server_while_the_response_is_made() -> None:
    gate = Gate()
    pool = ScriptedPool([drawing, lambda job: [Queued(0, None), gate, Completed(rendered(job))]])
    with RedisServer() as redis:
        settings: dict[str, Any] = {"redis": {"url": redis.url}}
        async with on_socket(scripted_engine(*STORY), pool, **settings) as maker, on_socket(**settings) as other:
            seen: list[str] = []
            async with maker.client.stream("POST", URL, json={"input": "Show me.", "stream": True}) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        seen.append(line)
                    if "image_generation_call.in_progress" in line:
                        break
            event = json.loads(seen[-1].removeprefix("data: "))
            path = f"{URL}/{response.headers['x-document-id']}"
            params = {"stream": True, "starting_after": event["sequence_number"]}
            resuming = asyncio.create_task(other.client.get(path, params=params))
            gate.open()
            rest = read(split((await resuming).text))
            whole = await stored(maker, response.headers["x-document-id"])

    assert [event["sequence_number"] for event in rest] == list(range(len(seen), len(seen) + len(rest)))
    assert rest[-1]["response"]["status"] == "completed"
    assert rest[-1]["response"]["output"][0] == whole["output"][0]


async def test_a_stream_whose_beginning_is_not_kept_cannot_be_resumed() -> None:
    async with in_memory(scripted_engine(["a" * 100, EOS]), journal={"document_bytes": 3000}) as app:
        await app.ready()
        events = await streamed(app)
        path = f"{URL}/{events[0]['response']['id']}"
        gone = await app.client.get(path, params={"stream": True, "starting_after": len(events) - 2})

    assert gone.status_code == 410
    assert gone.json()["error"]["code"] == "journal_truncated"


async def test_who_saw_more_than_a_lost_server_left_behind_is_told_of_its_end() -> None:
    gate = Gate()
    async with in_memory(scripted_engine(["Once", gate, EOS])) as app:
        await app.ready()
        url = f"{URL}/{(await respond(app, background=True))['id']}?stream=true"
        await gate.reached.wait()
        [document] = app.service.documents
        document.fail(SERVER_LOST, "the server that made the document was lost")
        await until(lambda: not app.service.documents)
        whole = read(split((await app.client.get(url)).text))
        rest = read(split((await app.client.get(f"{url}&starting_after=90")).text))

    assert outline(rest) == ["failed"]
    assert rest == [{**whole[-1], "sequence_number": 91}]
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
