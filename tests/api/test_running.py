"""A running document: handed over event by event, ended in order."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    TextDelta,
    Usage,
    is_last,
)
from server.interleave.journal.base import Record
from server.interleave.journal.log import DocumentLog
from server.interleave.running import Handover, RunningDocument
from tests.api.serving import until
from tests.scripted.script import Gate

USAGE = Usage(prompt_tokens=3, completion_tokens=2)
STARTED = DocumentStarted(0, "doc", "model", 1)


class Script:
    """Events of a document, and whether they were closed."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.taken = 0
        self.closed = False
        self._gate = gate

    async def events(self) -> AsyncGenerator[DocumentEvent, None]:
        try:
            yield STARTED
            for number in range(1, 4):
                self.taken = number
                yield TextDelta(number, 0, "word")
            if self._gate is not None:
                await self._gate.wait()
        finally:
            self.closed = True


async def begin(script: Script) -> tuple[RunningDocument, list[DocumentEvent]]:
    seen: list[DocumentEvent] = []
    events = script.events()
    return RunningDocument("doc", await anext(events), events, lambda: USAGE, seen.append), seen


async def several_rounds() -> None:
    """Let everyone go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def read(document: RunningDocument) -> list[DocumentEvent]:
    return [event async for event in document.events()]


async def test_no_event_but_the_next_is_asked_for_while_one_is_not_taken() -> None:
    script = Script()
    document, _ = await begin(script)
    events = document.events()

    for number in range(3):
        await several_rounds()
        assert script.taken == max(number, 1)
        assert (await anext(events)).sequence == number


async def test_a_document_that_fails_before_it_ran_ends_with_its_error_and_is_closed() -> None:
    script = Script()
    document, seen = await begin(script)
    document.fail("shutdown", "stopped")
    events = await read(document)

    assert isinstance(events[-1], DocumentFailed)
    assert [event.sequence for event in events] == list(range(len(events)))
    assert seen == events
    assert script.closed


@pytest.mark.parametrize("stored", [True, False])
async def test_a_reader_who_leaves_ends_a_document_only_if_it_is_not_stored(stored: bool) -> None:
    gate = Gate()
    script = Script(gate)
    log = DocumentLog(Record("doc", "alice", "interleaved", b"{}", False, 1), 10**6, lambda *_: None, lambda _: None)
    events = script.events()
    outlet = log if stored else Handover()
    document = RunningDocument("doc", await anext(events), events, lambda: USAGE, lambda _: None, outlet)
    reading = asyncio.create_task(read(document))
    await gate.reached.wait()
    document.leave()
    await asyncio.sleep(0)
    gate.open()
    await asyncio.wait([document.task])

    assert document.task.cancelled() is not stored
    assert [event.sequence for event in await reading] == [0, 1, 2, 3]


async def test_a_document_that_is_cancelled_before_it_ran_is_closed() -> None:
    script = Script()
    document, _ = await begin(script)
    document.cancel()

    await until(document.task.done)
    assert script.closed
    assert await read(document) == [STARTED]


async def test_a_document_that_fails_while_it_waits_ends_with_the_next_number() -> None:
    gate = Gate()
    script = Script(gate)
    document, _ = await begin(script)
    reading = asyncio.create_task(read(document))
    await gate.reached.wait()
    document.fail("shutdown", "stopped")
    events = await reading

    assert [event.sequence for event in events] == [0, 1, 2, 3, 4]
    assert events[-1] == DocumentFailed(4, "shutdown", "stopped", USAGE)
    assert script.closed


@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_an_observer_that_fails_keeps_no_event_from_the_reader(number: int) -> None:
    async def story() -> AsyncGenerator[DocumentEvent, None]:
        for sequence in range(1, 4):
            yield TextDelta(sequence, 0, "word")
        yield DocumentCompleted(4, "stop", USAGE)

    def observe(event: DocumentEvent) -> None:
        if event.sequence == number:
            raise ValueError("this event cannot be counted")

    events = await read(RunningDocument("doc", STARTED, story(), lambda: USAGE, observe))

    assert [event.sequence for event in events] == list(range(len(events)))
    assert is_last(events[-1])
    assert isinstance(events[-1], DocumentFailed) is (number < 4)
