"""Documents of pictures alone keep the promises of every document."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from server.files.memory import MemoryImageStore
from server.interleave.events import DocumentCompleted, DocumentEvent, DocumentFailed, ImageCompleted, ImageFailed
from server.interleave.text_to_image import TextToImage, TextToImageRequest
from server.llm.engine import EngineDeadError, EngineError
from server.llm.prompt import PromptBuilder, PromptError
from server.pool.base import Queued, RenderError
from tests.interleave.answers import IMAGES, check_promises, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import Gate


def text_to_image(engine: ScriptedEngine, pool: ScriptedPool, **images: Any) -> TextToImage:
    """Three pictures, drawn so."""
    params = replace(IMAGES, **{"max": 3, **images})
    request = TextToImageRequest("img", "scripted", "a red circle", params)
    return TextToImage(engine, pool, request, PromptBuilder(engine), MemoryImageStore(2**20, 60))


async def events_of(engine: ScriptedEngine, pool: ScriptedPool, **images: Any) -> Sequence[DocumentEvent]:
    """The events of a document, which leaves nothing behind."""
    tasks = asyncio.all_tasks()
    async with aclosing(text_to_image(engine, pool, **images).events()) as stream:
        events = [event async for event in stream]
    assert asyncio.all_tasks() <= tasks
    assert not engine.requests.running
    assert not pool.record.running
    check_promises(events)
    return events


async def test_pictures_become_parts_in_order_however_they_finish() -> None:
    gate = Gate()
    late = ScriptedPool([lambda job: [Queued(0, None), gate, *drawing(job)[1:]]])
    making = asyncio.create_task(events_of(ScriptedEngine(), late))
    await gate.reached.wait()
    await until(lambda: len(late.record.finished) == 2)
    gate.open()
    events = await making

    assert [event.part for event in events if isinstance(event, ImageCompleted)] == [1, 2, 0]
    last = events[-1]
    assert isinstance(last, DocumentCompleted)
    assert (last.finish_reason, last.usage.images, last.usage.completion_tokens) == ("stop", 3, 0)
    assert last.usage.denoising_steps == 3 * IMAGES.steps


async def test_a_picture_that_fails_leaves_the_others_alone() -> None:
    pool = ScriptedPool([drawing, [RenderError("render_failed", "out of paint")]])

    events = await events_of(ScriptedEngine(), pool)

    assert [event.part for event in events if isinstance(event, ImageCompleted)] == [0, 2]
    assert [(event.part, event.code) for event in events if isinstance(event, ImageFailed)] == [(1, "render_failed")]
    last = events[-1]
    assert isinstance(last, DocumentCompleted)
    assert last.usage.images == 2


async def test_a_dream_that_fails_fails_its_picture_and_a_dead_engine_the_document() -> None:
    failed = await events_of(ScriptedEngine(dreams=[EngineError("no room")]), ScriptedPool(), max=2)
    dead = await events_of(ScriptedEngine(dreams=[EngineDeadError("gone")]), ScriptedPool(), max=2)

    assert [event.code for event in failed if isinstance(event, ImageFailed)] == ["dream_failed"]
    assert isinstance(failed[-1], DocumentCompleted)
    assert isinstance(dead[-1], DocumentFailed)
    assert dead[-1].code == "engine_unavailable"


async def test_closing_cancels_dreams_and_drawings() -> None:
    for engine, pool, gate in stuck():
        stream = text_to_image(engine, pool).events()
        await anext(stream)
        await gate.reached.wait()

        await stream.aclose()

        assert not engine.requests.running
        assert not pool.record.running
        assert len(engine.requests.aborted + pool.record.aborted) >= 1


def stuck() -> list[tuple[ScriptedEngine, ScriptedPool, Gate]]:
    """Engines and pools that do not get on, and where."""
    dreaming, rendering = Gate(), Gate()
    return [
        (ScriptedEngine(dreams=[dreaming]), ScriptedPool(), dreaming),
        (ScriptedEngine(), ScriptedPool([[Queued(0, None), rendering]] * 3), rendering),
    ]


async def test_the_negative_prompt_steers_only_where_there_is_guidance() -> None:
    guided, free = ScriptedEngine(), ScriptedEngine()
    pool = ScriptedPool()

    await events_of(guided, pool, max=1, negative_prompt="dull", guidance_scale=2.0)
    await events_of(free, pool, max=1, negative_prompt="dull", guidance_scale=1.0)

    assert [job.negative_states is not None for job in pool.jobs] == [True, False]
    assert guided.dream_calls[1].prompt == PromptBuilder(guided).build_negative("dull")


@pytest.mark.parametrize(("room", "fits"), [(-1, False), (0, True)])
async def test_a_description_must_leave_room_for_the_dream(room: int, fits: bool) -> None:
    engine = ScriptedEngine()
    read = len("a red circle") + 1  # BOS and letters
    engine.max_model_len = read + len(engine.config.dream_block) + 1 + room

    if fits:
        await events_of(engine, ScriptedPool())
    else:
        with pytest.raises(PromptError) as refused:
            await events_of(engine, ScriptedPool())
        assert refused.value.param == "prompt"


async def test_it_goes_behind_answers_that_have_begun() -> None:
    engine = ScriptedEngine()
    await events_of(engine, ScriptedPool())

    assert {call.priority for call in engine.dream_calls} == {"normal"}
