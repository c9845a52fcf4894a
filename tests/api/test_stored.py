"""Stored documents of ``/v1/interleaved``: they go on without readers, and are read, ended and deleted by their id."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx_sse import aconnect_sse

from server.observe.metrics import DOCUMENTS
from server.pool.base import Completed, Progress, Queued, RenderedImage
from tests.api.serving import Listening, Running, in_memory, on_socket, scripted_engine, until
from tests.scripted.pool import ScriptedPool, drawing, rendered, solid
from tests.scripted.script import DREAM, EOS, Gate

BODY = {"input": "Show me.", "stream": True, "store": True}


async def begin(app: Running, body: dict[str, Any] = BODY, until_event: str = "document.started") -> str:
    """Ask for a document, leave after an event, and return its id."""
    async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=body) as source:
        async for event in source.aiter_sse():
            if event.event == until_event:
                return source.response.headers["x-document-id"]
    raise AssertionError(f"there was no {until_event}")


@asynccontextmanager
async def drawing_a_cat(gate: Gate, **settings: Any) -> AsyncIterator[Listening]:
    """A server whose model says something and then draws, until the gate opens."""
    pool = ScriptedPool([drawing, lambda job: [Queued(0, None), Progress(1, 4), gate, Completed(rendered(job))]])
    async with on_socket(scripted_engine(["Look: ", DREAM], ["A cat.", EOS]), pool, **settings) as app:
        yield app
        gate.open()


async def test_a_stored_document_goes_on_when_its_reader_leaves() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, " upon a time.", EOS])) as app:
        document_id = await begin(app)
        await gate.reached.wait()
        gate.open()
        await until(lambda: not app.service.documents)
        document = (await app.client.get(f"/v1/interleaved/{document_id}")).json()

    assert document["id"] == document_id
    assert document["status"] == "completed"
    assert document["parts"] == [{"type": "text", "text": "Once upon a time."}]
    assert app.engine.requests.aborted == []


async def test_a_document_is_shown_as_far_as_it_is() -> None:
    gate = Gate()
    async with drawing_a_cat(gate) as app:
        document_id = await begin(app)
        await gate.reached.wait()
        document = (await app.client.get(f"/v1/interleaved/{document_id}")).json()

    assert document["status"] == "in_progress"
    assert document["parts"] == [{"type": "text", "text": "Look: "}, {"type": "image", "status": "in_progress"}]
    assert document["finish_reason"] is document["usage"] is document["error"] is None


async def test_a_finished_document_is_what_its_caller_was_told() -> None:
    async with in_memory(scripted_engine(["Look: ", DREAM], ["A cat.", EOS])) as app:
        await app.ready()
        told = (await app.client.post("/v1/interleaved", json={"input": "a", "store": True})).json()
        kept = (await app.client.get(f"/v1/interleaved/{told['id']}")).json()

    assert told == kept
    assert told["status"] == "completed"


async def test_a_document_that_is_not_stored_is_nowhere_to_be_found() -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "a"})).json()
        response = await app.client.get(f"/v1/interleaved/{document['id']}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "?stream=true&starting_after=3"), ("POST", "/cancel"), ("DELETE", "")]
)
async def test_an_unknown_document_is_not_found(running: Running, method: str, path: str) -> None:
    response = await running.client.request(method, f"/v1/interleaved/doc_0{path}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"


async def test_ids_cannot_be_guessed() -> None:
    async with in_memory(scripted_engine(["a", EOS], ["b", EOS])) as app:
        await app.ready()
        ids = [(await app.client.post("/v1/interleaved", json={"input": "a"})).json()["id"] for _ in range(2)]

    assert all(len(bytes.fromhex(id.removeprefix("doc_"))) == 16 for id in ids)
    assert ids[0] != ids[1]


async def test_a_browser_that_connects_again_goes_on_where_it_was() -> None:
    async with in_memory(scripted_engine(["abc", EOS])) as app:
        await app.ready()
        document_id = (await app.client.post("/v1/interleaved", json={"input": "a", "store": True})).json()["id"]
        path = f"/v1/interleaved/{document_id}?stream=true&starting_after=0"
        async with aconnect_sse(app.client, "GET", path, headers={"Last-Event-ID": "2"}) as source:
            events = [event async for event in source.aiter_sse()]

    assert [event.id for event in events] == ["3", "4"]


@pytest.mark.parametrize(
    ("query", "headers", "param"),
    [
        ("starting_after=-1", {}, "starting_after"),
        ("starting_after=x", {}, "starting_after"),
        ("", {"Last-Event-ID": "x"}, "last-event-id"),
        ("stream=perhaps", {}, "stream"),
    ],
)
async def test_a_place_that_is_none_is_refused(
    running: Running, query: str, headers: dict[str, str], param: str
) -> None:
    response = await running.client.get(f"/v1/interleaved/doc_0?stream=true&{query}", headers=headers)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_a_place_that_is_not_kept_any_more_is_gone() -> None:
    async with in_memory(scripted_engine(["a" * 100, EOS]), journal={"document_bytes": 3000}) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "a", "store": True})).json()
        path = f"/v1/interleaved/{document['id']}"
        whole = await app.client.get(path)
        early = await app.client.get(path, params={"stream": True, "starting_after": 5})
        async with aconnect_sse(app.client, "GET", path, params={"stream": True, "starting_after": 99}) as source:
            late = [event.id async for event in source.aiter_sse()]

    for response in (whole, early):
        assert response.status_code == 410
        assert response.json()["error"]["code"] == "journal_truncated"
    assert late == ["100", "101"]


async def test_a_document_is_ended_by_its_id() -> None:
    gate = Gate()
    async with drawing_a_cat(gate) as app:
        before = DOCUMENTS.labels("cancelled")._value.get()
        async with aconnect_sse(app.client, "POST", "/v1/interleaved", json=BODY) as source:
            events = source.aiter_sse()
            started = await anext(events)
            await gate.reached.wait()
            path = f"/v1/interleaved/{started.json()['id']}"
            cancelled = await app.client.post(f"{path}/cancel")
            last = [event async for event in events][-1]
        again = await app.client.post(f"{path}/cancel")
        kept = await app.client.get(path)
        await until(lambda: DOCUMENTS.labels("cancelled")._value.get() == before + 1)

    document = cancelled.json()
    assert document == again.json() == kept.json()
    assert document["status"] == document["error"]["code"] == "cancelled"
    assert document["parts"][1]["error"]["code"] == "missing"
    assert document["usage"]["completion_tokens"] == len("Look: ") + 1
    assert (last.event, last.json()["error"]) == ("document.failed", document["error"])
    assert app.pool.record.aborted == [app.pool.jobs[-1].id]


async def test_whoever_waits_for_a_whole_document_is_told_that_it_was_ended() -> None:
    gate = Gate()
    async with drawing_a_cat(gate) as app:
        waiting = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a", "store": True}))
        await gate.reached.wait()
        [document] = app.service.documents
        await app.service.journal.cancel(document.id)
        response = await waiting

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "cancelled"


@pytest.mark.parametrize("ended", [True, False])
async def test_a_document_is_forgotten_by_its_id(ended: bool) -> None:
    gate = Gate()
    async with drawing_a_cat(gate) as app:
        document_id = await begin(app)
        if ended:
            gate.open()
            await until(lambda: not app.service.documents)
        path = f"/v1/interleaved/{document_id}"
        deleted = await app.client.delete(path)
        gone = await app.client.get(path)
        await until(lambda: not app.service.documents)

    assert deleted.json() == {"id": document_id, "object": "interleaved.document.deleted", "deleted": True}
    assert gone.status_code == 404
    assert bool(app.pool.record.aborted) is not ended


@pytest.mark.parametrize("surface", ["interleaved", "responses"])
async def test_the_pictures_of_a_forgotten_document_are_forgotten_with_it(surface: str) -> None:
    body = {"input": "a", "store": True, "images": {"delivery": "url"}}
    async with in_memory(scripted_engine(["Look: ", DREAM], ["A cat.", EOS]), ScriptedPool([drawing])) as app:
        await app.ready()
        document = (await app.client.post(f"/v1/{surface}", json=body)).json()
        [link] = re.findall(r"/v1/files/images/file_[\w-]+", json.dumps(document))
        there = await app.client.get(link)
        deleted = await app.client.delete(f"/v1/{surface}/{document['id']}")
        gone = await app.client.get(link)

    assert (there.status_code, deleted.status_code, gone.status_code) == (200, 200, 404)


async def test_a_document_that_nobody_reads_is_ended() -> None:
    gate = Gate()
    async with drawing_a_cat(gate, journal={"abandon_after_s": 0.01}) as app:
        document_id = await begin(app)
        await until(lambda: not app.service.documents)
        document = (await app.client.get(f"/v1/interleaved/{document_id}")).json()

    assert document["status"] == "cancelled"
    assert app.pool.record.aborted


async def test_a_reader_who_stalls_holds_up_nobody() -> None:
    large = RenderedImage(bytes(16_000_000), "png", solid(64, 64, (0, 0, 0)))  # more than a socket holds
    pool = ScriptedPool([drawing, [Queued(0, None), Completed(large)]])
    async with (
        on_socket(scripted_engine(["Look: ", DREAM], ["A cat.", EOS]), pool) as app,
        app.client.stream("POST", "/v1/interleaved", json=BODY) as stalled,
    ):
        path = f"/v1/interleaved/{stalled.headers['x-document-id']}"
        await until(lambda: not app.service.documents)
        async with aconnect_sse(app.client, "GET", path, params={"stream": True}) as source:
            events = [event async for event in source.aiter_sse()]

    assert events[-1].event == "document.completed"
    assert [event.id for event in events] == [str(n) for n in range(len(events))]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/interleaved", {"input": "a"}),
        ("/v1/responses", {"input": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
async def test_a_whole_answer_has_its_id_in_the_header_where_a_stream_has_it(path: str, body: dict[str, Any]) -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        first = await app.client.post(path, json={**body, "store": True})
        again = await app.client.get(f"{path}/{first.json()['id']}")

    assert first.headers["x-document-id"] == again.headers["x-document-id"] == first.json()["id"]


async def test_a_document_of_one_surface_is_not_shown_by_another() -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "a", "store": True})).json()

        assert (await app.service.journal.stored(document["id"])).status == "completed"
        assert (await app.client.get(f"/v1/chat/completions/{document['id']}")).status_code == 404


async def test_what_the_journal_holds_is_measured() -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        await app.client.post("/v1/interleaved", json={"input": "a", "store": True})
        lines = (await app.client.get("/metrics")).text.splitlines()

    assert "dreamserve_journal_documents 1.0" in lines
    assert "dreamserve_journal_mirror_lag_seconds 0.0" in lines
    assert "dreamserve_journal_mirrors_given_up_total 0.0" in [line.replace("1.0", "0.0") for line in lines]
    [held] = [line for line in lines if line.startswith("dreamserve_journal_bytes ")]
    assert float(held.split()[1]) > 500
