"""Admission: who may begin, who waits, who is sent away, and when he is told to come again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from server.guard.admission import Admission, OverloadedError
from server.guard.caller import ANONYMOUS, Caller
from server.guard.demand import Demand, Expectations, demand_of
from server.guard.place import Place
from server.interleave.events import DocumentCompleted, ImageQueued, Usage
from server.interleave.text_to_image import TextToImageRequest
from server.llm.engine import EngineLoad
from server.llm.prompt import PromptBuilder
from server.pool.base import PoolLoad
from server.settings import AdmissionSettings
from tests.api.serving import DRAWING, until
from tests.interleave.answers import IMAGES, REQUEST
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool

TEXT = Demand(prompt_tokens=100, max_tokens=100, max_images=0, image_steps=0.0, certain=True)
DRAWS = Demand(prompt_tokens=100, max_tokens=100, max_images=1, image_steps=10.0, certain=True)
IDLE = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=1, steps_per_s=1.0)


class Scene:
    """An admission whose engine and pool are as busy as a test says."""

    def __init__(self, admission: Admission, engine: ScriptedEngine, pool: ScriptedPool) -> None:
        self.admission = admission
        self.engine = engine
        self.pool = pool
        self.order: list[str] = []

    async def waiting(self, demand: Demand = TEXT, caller: Caller = ANONYMOUS) -> asyncio.Task[Place]:
        """Somebody who has come as far as he gets now."""
        task = asyncio.create_task(self.admission.admit(caller, demand))
        for _ in range(10):
            await asyncio.sleep(0)
        task.add_done_callback(lambda _: self.order.append(caller.id))
        return task


@asynccontextmanager
async def scene(kv_tokens: int = 1000, **settings: Any) -> AsyncIterator[Scene]:
    engine, pool = ScriptedEngine(kv_tokens=kv_tokens), ScriptedPool(load=IDLE)
    admission = Admission(AdmissionSettings(**settings), engine, pool)
    async with admission.serving():
        yield Scene(admission, engine, pool)


async def test_there_is_no_line_while_there_is_room() -> None:
    async with scene() as at:
        places = [await at.admission.admit(ANONYMOUS, TEXT) for _ in range(5)]

    assert len(places) == 5


async def test_documents_at_work_are_counted() -> None:
    async with scene(max_running=2) as at:
        first, _ = [await at.admission.admit(ANONYMOUS, TEXT) for _ in range(2)]
        third = await at.waiting()
        assert not third.done()
        first.close(Usage())
        await third


async def test_the_tokens_promised_fit_into_the_kv_cache() -> None:
    async with scene(kv_tokens=500) as at:
        first, _ = [await at.admission.admit(ANONYMOUS, TEXT) for _ in range(2)]
        third = await at.waiting()
        small = await at.waiting(replace(TEXT, prompt_tokens=1, max_tokens=1))
        assert not third.done()
        assert not small.done(), "nobody passes who waits for the same"
        first.close(Usage())
        await asyncio.gather(third, small)


async def test_a_document_that_is_too_large_for_the_cache_has_it_alone() -> None:
    large = replace(TEXT, prompt_tokens=5000)
    async with scene(kv_tokens=500) as at:
        first = await at.admission.admit(ANONYMOUS, TEXT)
        waiting = await at.waiting(large)
        assert not waiting.done()
        first.close(Usage())
        await waiting


@pytest.mark.parametrize("load", [EngineLoad(kv_usage=0.95), EngineLoad(running=8, waiting=8)])
async def test_what_vllm_measures_keeps_others_out_until_it_falls(load: EngineLoad) -> None:
    async with scene() as at:
        await at.admission.admit(ANONYMOUS, TEXT)
        at.engine.current_load = load
        waiting = await at.waiting()
        assert not waiting.done()
        at.engine.current_load = EngineLoad(running=8)
        await waiting


async def test_a_picture_is_promised_until_it_is_queued() -> None:
    async with scene(max_picture_wait_s=15) as at:
        first, second = [await at.admission.admit(ANONYMOUS, DRAWS) for _ in range(2)]
        third = await at.waiting(DRAWS)
        assert not third.done()
        for place in (first, second):
            place.observe(ImageQueued(1, 0, 0, None))
        await third


async def test_what_is_promised_for_pictures_is_given_back_at_the_end() -> None:
    async with scene(max_picture_wait_s=15) as at:
        first, second = [await at.admission.admit(ANONYMOUS, DRAWS) for _ in range(2)]
        third = await at.waiting(DRAWS)
        assert not third.done()
        first.close(Usage())
        second.close(Usage())
        await third


async def test_text_passes_those_who_wait_for_the_pool() -> None:
    async with scene() as at:
        at.pool.current_load = replace(IDLE, seconds_ahead=70.0)
        draws = await at.waiting(DRAWS)
        await at.admission.admit(ANONYMOUS, TEXT)
        assert not draws.done()
        at.pool.current_load = IDLE
        await draws


async def test_who_would_wait_too_long_for_the_pool_is_told_at_once_when_to_come_again() -> None:
    async with scene(max_wait_s=30, max_picture_wait_s=60) as at:
        at.pool.current_load = replace(IDLE, seconds_ahead=137.2)
        with pytest.raises(OverloadedError) as refused:
            await at.admission.admit(ANONYMOUS, DRAWS)

    assert (refused.value.reason, refused.value.retry_after_s) == ("pool_full", 78)


async def test_who_has_waited_too_long_is_sent_away() -> None:
    async with scene(max_running=1, max_wait_s=0.01) as at:
        await at.admission.admit(ANONYMOUS, TEXT)
        with pytest.raises(OverloadedError) as refused:
            await at.admission.admit(ANONYMOUS, TEXT)
        assert not len(at.admission._line)

    assert refused.value.reason == "waited_too_long"
    assert refused.value.retry_after_s >= 1


async def test_the_line_is_no_longer_than_allowed() -> None:
    async with scene(max_running=1, max_waiting=3) as at:
        await at.admission.admit(ANONYMOUS, TEXT)
        waiting = [await at.waiting() for _ in range(3)]
        with pytest.raises(OverloadedError) as refused:
            await at.admission.admit(ANONYMOUS, TEXT)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()

    assert refused.value.reason == "line_full"


async def test_a_full_line_has_room_for_a_caller_who_has_less_of_it() -> None:
    many, few = Caller("many"), Caller("few")
    async with scene(max_running=1, max_waiting=3) as at:
        running = await at.admission.admit(many, TEXT)
        crowd = [await at.waiting(caller=many) for _ in range(3)]
        single = await at.waiting(caller=few)
        with pytest.raises(OverloadedError):
            await crowd[2]
        running.close(Usage())
        (await single).close(Usage())
        (await crowd[0]).close(Usage())
        await crowd[1]


async def test_one_caller_with_a_thousand_requests_does_not_starve_another() -> None:
    many, few = Caller("many"), Caller("few")
    async with scene(max_running=1, max_waiting=2000) as at:
        running = await at.admission.admit(many, TEXT)
        crowd = [asyncio.create_task(at.admission.admit(many, TEXT)) for _ in range(1000)]
        await until(lambda: len(at.admission._line) == 1000)
        single = await at.waiting(caller=few)
        running.close(Usage())
        done, _ = await asyncio.wait([single, *crowd], return_when=asyncio.FIRST_COMPLETED)
        if single not in done:
            done.pop().result().close(Usage())
        await single
        assert sum(task.done() for task in crowd) <= 1
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)


async def test_weights_decide_who_is_next() -> None:
    light, heavy = Caller("light"), Caller("heavy", weight=3.0)
    async with scene(max_running=1) as at:
        running = await at.admission.admit(ANONYMOUS, TEXT)
        waiting = [await at.waiting(caller=light) for _ in range(4)] + [
            await at.waiting(caller=heavy) for _ in range(6)
        ]
        for served in range(8):
            running.close(Usage(prompt_tokens=100, completion_tokens=100))
            await until(lambda served=served: len(at.order) > served)
            running = next(task.result() for task in waiting if task.done() and not task.result().images)
            running.images = 1  # marks that it has had its turn
        assert (at.order.count("light"), at.order.count("heavy")) == (2, 6)
        for task in waiting:
            task.cancel()


async def test_whoever_leaves_the_line_is_not_admitted() -> None:
    async with scene(max_running=1) as at:
        first = await at.admission.admit(ANONYMOUS, TEXT)
        leaving, staying = await at.waiting(), await at.waiting()
        leaving.cancel()
        first.close(Usage())
        await staying

    assert leaving.cancelled()


async def test_who_leaves_in_the_instant_of_his_admission_gives_his_place_back() -> None:
    async with scene(max_running=1) as at:
        first = await at.admission.admit(ANONYMOUS, TEXT)
        leaving, staying = await at.waiting(), await at.waiting()
        first.close(Usage())
        at.admission._admit_who_fits()
        leaving.cancel()
        await staying

    assert leaving.cancelled()


async def test_closing_sends_everybody_away_with_the_reason() -> None:
    async with scene(max_running=1) as at:
        await at.admission.admit(ANONYMOUS, TEXT)
        waiting = await at.waiting()
        at.admission.close(LookupError("closed"))
        with pytest.raises(LookupError):
            await waiting
        with pytest.raises(LookupError):
            await at.admission.admit(ANONYMOUS, TEXT)


async def test_a_pool_that_breaks_does_not_leave_anybody_waiting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> PoolLoad:
        raise ZeroDivisionError

    async with scene(max_running=1) as at:
        first = await at.admission.admit(ANONYMOUS, TEXT)
        waiting = await at.waiting(DRAWS)
        with monkeypatch.context() as patched:
            patched.setattr(at.pool, "load", broken)
            first.close(Usage())
            with pytest.raises(ZeroDivisionError):
                await waiting
        await at.admission.admit(ANONYMOUS, TEXT)

    assert "could not be served" in caplog.text


async def test_text_does_not_wait_for_a_pool_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> PoolLoad:
        return await asyncio.Event().wait() and IDLE

    async with scene(max_running=1) as at:
        monkeypatch.setattr(at.pool, "load", silent)
        first = await at.admission.admit(ANONYMOUS, TEXT)
        waiting = await at.waiting()
        first.close(Usage())
        await waiting


async def test_what_documents_take_is_learned_from_those_that_ended_well() -> None:
    open_ended = Demand(prompt_tokens=10, max_tokens=900, max_images=4, image_steps=10.0, certain=False)
    async with scene(kv_tokens=10**6) as at:
        begin = await at.admission.admit(ANONYMOUS, open_ended)
        begin.close(Usage())
        for _ in range(200):
            place = await at.admission.admit(ANONYMOUS, open_ended)
            for part in range(3):
                place.observe(ImageQueued(1, part, 0, None))
            place.observe(DocumentCompleted(2, "stop", Usage(completion_tokens=40)))
            assert place.closed
            place.close(Usage())  # what comes later changes nothing
        later = await at.admission.admit(ANONYMOUS, open_ended)

    assert begin.share.image_steps == 10
    assert later.share.image_steps == pytest.approx(30, rel=0.01)
    assert later.share.tokens == pytest.approx(50, rel=0.01)


def test_no_document_is_promised_more_than_it_asks_for() -> None:
    expectations = Expectations(images=3.0)
    short = Demand(prompt_tokens=10, max_tokens=5, max_images=1, image_steps=8.0, certain=False)

    assert expectations.of(short).tokens == 15
    assert expectations.of(short).image_steps == 8
    assert expectations.of(replace(short, max_images=9)).image_steps == 24
    assert expectations.of(replace(short, max_images=9, certain=True)).image_steps == 72


def test_a_demand_counts_pictures_in_the_checkpoints_own_size() -> None:
    engine = ScriptedEngine(max_model_len=500)
    backend: Any = type("Backend", (), {"engine": engine, "drawing": DRAWING, "prompts": PromptBuilder(engine)})
    large = replace(IMAGES, width=128, height=64, steps=10, max=2)
    document = demand_of(replace(REQUEST, images=large, max_tokens=20), 100, backend)
    open_ended = demand_of(replace(REQUEST, images=large), 100, backend)
    pictures = demand_of(TextToImageRequest("id", "model", "a cat", large), 7, backend)

    added = len(engine.config.dream_block) + len(engine.config.image_block) - 1 + engine.config.num_image_tokens
    assert document == Demand(100, 20 + 2 * added, 2, 20.0, certain=False)
    assert open_ended.max_tokens == 400
    assert pictures == Demand(7, len(engine.config.dream_block), 2, 20.0, certain=True)
