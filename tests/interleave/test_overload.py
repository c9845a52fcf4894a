"""Pictures that the model asks for while the pool has too much to do, and readers who take nothing."""

import asyncio
from contextlib import aclosing

import pytest

from server.interleave.document import Document
from server.interleave.events import DocumentEvent, DocumentFailed, ImageQueued
from server.pool.base import PoolLoad
from tests.interleave.answers import answer, check_promises, interceptor, until
from tests.scripted.engine import ScriptedEngine, TokenItem
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS, Gate

TWO_PICTURES: list[list[TokenItem]] = [["one", DREAM], ["two", DREAM], ["three", EOS]]
IDLE = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=1)
BEHIND = PoolLoad(queue_depth=9, running=8, seconds_ahead=121.0, workers_alive=1)


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_an_answer_that_may_skip_pictures_goes_on_without_them(feedback: str) -> None:
    engine, pool = ScriptedEngine(turns=TWO_PICTURES), ScriptedPool(load=BEHIND)
    made = await answer(engine, pool, images={"on_overload": "skip", "feedback": feedback})

    assert made.parts == ["one", "overloaded", "two", "overloaded", "three"]
    assert made.document.finish_reason == "stop"
    assert (made.document.usage.images, pool.jobs, engine.dream_calls) == (0, [], [])


async def test_a_pool_that_has_lost_all_its_workers_has_fallen_behind() -> None:
    abandoned = PoolLoad(queue_depth=9, running=0, seconds_ahead=0.0, workers_alive=0)
    engine, pool = ScriptedEngine(turns=TWO_PICTURES), ScriptedPool(load=abandoned)

    assert (await answer(engine, pool, images={"on_overload": "skip"})).parts[1] == "overloaded"


@pytest.mark.parametrize(("takes_jobs", "wait_for_workers"), [(True, True), (False, False)])
async def test_a_pool_that_waits_for_its_workers_or_its_redis_has_not(takes_jobs: bool, wait_for_workers: bool) -> None:
    asleep = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0, takes_jobs=takes_jobs)
    engine, pool = ScriptedEngine(turns=TWO_PICTURES), ScriptedPool(load=asleep)
    made = await answer(engine, pool, images={"on_overload": "skip"}, wait_for_workers=wait_for_workers)

    assert made.parts[1] == "IMAGE"


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_a_skipped_picture_leaves_its_queries_in_the_context(feedback: str) -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], [EOS]])
    await answer(engine, ScriptedPool(load=BEHIND), images={"on_overload": "skip", "feedback": feedback})

    assert engine.calls[1].prompt.token_ids[-len(engine.config.dream_block) :] == tuple(engine.config.dream_block)
    assert engine.calls[1].prompt.images == ()


async def test_pictures_are_drawn_again_when_the_pool_has_caught_up() -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", gate, DREAM], ["three", EOS]])
    pool = ScriptedPool(load=BEHIND)
    making = asyncio.create_task(answer(engine, pool, images={"on_overload": "skip"}))
    await gate.reached.wait()
    pool.current_load = IDLE
    gate.open()

    assert (await making).parts == ["one", "overloaded", "two", "IMAGE", "three"]


async def test_skipped_pictures_count_as_asked_for() -> None:
    engine = ScriptedEngine(turns=[[DREAM], [DREAM], ["the end", EOS]])
    await answer(engine, ScriptedPool(load=BEHIND), images={"on_overload": "skip", "max": 2})

    assert engine.config.dream_token_id in engine.calls[2].sampling.banned_token_ids


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_an_answer_that_may_not_lack_a_picture_fails_where_it_would(feedback: str) -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", gate, DREAM]])
    pool = ScriptedPool()
    making = asyncio.create_task(answer(engine, pool, images={"on_overload": "fail", "feedback": feedback}))
    await gate.reached.wait()
    pool.current_load = BEHIND
    gate.open()
    made = await making

    assert made.parts == ["one", "IMAGE", "two"]
    assert made.document.error is not None
    assert made.document.error.code == "overloaded"
    assert made.document.error.usage.images == 1


async def test_an_answer_that_fails_for_a_picture_leaves_no_other_one_behind() -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", gate, DREAM]])
    pool = ScriptedPool(jobs=[[Gate()]])
    making = asyncio.create_task(answer(engine, pool, images={"on_overload": "fail", "feedback": "none"}))
    await gate.reached.wait()
    pool.current_load = BEHIND
    gate.open()
    await making

    assert pool.record.aborted == ["doc-image-0"]


async def test_text_that_was_held_back_before_a_skipped_picture_comes_before_it() -> None:
    engine = ScriptedEngine(turns=[["one END", DREAM], [" two", EOS]])
    made = await answer(engine, ScriptedPool(load=BEHIND), images={"on_overload": "skip"}, stop=("END.",))

    assert made.parts == ["one END", "overloaded", " two"]


async def test_an_answer_that_waits_for_its_pictures_gets_them() -> None:
    made = await answer(ScriptedEngine(turns=TWO_PICTURES), ScriptedPool(load=BEHIND))

    assert made.parts == ["one", "IMAGE", "two", "IMAGE", "three"]


async def test_an_answer_that_has_begun_goes_before_those_that_have_not() -> None:
    engine = ScriptedEngine(turns=TWO_PICTURES)
    await answer(engine)

    assert [call.priority for call in engine.calls] == ["normal", "high", "high"]
    assert [call.priority for call in engine.dream_calls] == ["high", "high"]


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_a_reader_who_leaves_too_much_waiting_ends_the_document(feedback: str) -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["a" * 200, gate, "b" * 200, EOS]])
    making = interceptor(engine, images={"feedback": feedback}, unread_bytes=1500)
    events: list[DocumentEvent] = []
    async with aclosing(making.events()) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, ImageQueued):
                break
        gate.open()
        await until(lambda: not engine.requests.running and len(engine.calls) > 1)
        events += [event async for event in stream]

    check_promises(events)
    assert isinstance(events[-1], DocumentFailed)
    assert events[-1].code == "reader_too_slow"
    assert Document.of(events).status == "failed"
