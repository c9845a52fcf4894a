"""The pictures of a document: what is rendered, what the model is shown, what happens when one fails."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
import torch

from server.guard.images import ImageInputLimits, decode_image
from server.interleave.events import (
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    TextDelta,
)
from server.interleave.interceptor import State
from server.llm.engine import EngineDeadError, EngineError
from server.pool.base import Completed, Progress, Queued, RenderError, RenderJob
from tests.interleave.answers import answer, interceptor, until
from tests.scripted.engine import ScriptedEngine, TokenItem
from tests.scripted.pool import JobItem, ScriptedPool, rendered
from tests.scripted.script import DREAM, EOS, Gate

TWO_PICTURES: list[list[TokenItem]] = [["one", DREAM], ["two", DREAM], ["three", EOS]]


def text_ids(engine: ScriptedEngine, text: str) -> tuple[int, ...]:
    return tuple(engine.tokenizer.encode(text).ids)


async def test_text_and_pictures_come_in_the_order_of_the_model() -> None:
    made = await answer(ScriptedEngine(turns=TWO_PICTURES))
    assert made.parts == ["one", "IMAGE", "two", "IMAGE", "three"]
    assert made.document.finish_reason == "stop"


async def test_pictures_without_text_between_them_are_parts_of_their_own() -> None:
    made = await answer(ScriptedEngine(turns=[[DREAM], [DREAM], [EOS]]))
    assert made.parts == ["IMAGE", "IMAGE"]


async def test_updates_of_the_pool_become_events_of_the_part() -> None:
    made = await answer(ScriptedEngine(turns=[["a", DREAM], [EOS]]), images={"steps": 4, "previews": 1})
    pictures = [event for event in made.events if getattr(event, "part", None) == 1]
    assert [type(event) for event in pictures] == [
        ImageQueued,
        ImageProgress,
        ImageProgress,
        ImagePreview,
        ImageProgress,
        ImageProgress,
        ImageCompleted,
    ]
    assert [(e.step, e.steps) for e in pictures if isinstance(e, ImageProgress)] == [(n, 4) for n in (1, 2, 3, 4)]


async def test_the_picture_of_the_event_is_the_one_that_was_drawn() -> None:
    pool = ScriptedPool()
    made = await answer(ScriptedEngine(turns=[[DREAM], [EOS]]), pool, images={"format": "webp", "width": 32})
    event = next(event for event in made.events if isinstance(event, ImageCompleted))
    assert event.image.data == rendered(pool.jobs[0]).data
    assert (event.image.format, event.image.width, event.image.height) == ("webp", 32, 16)
    assert event.image.seed == pool.jobs[0].seed


async def test_a_job_carries_the_dream_states_and_the_parameters_of_the_request() -> None:
    states = torch.randn(4, 8)
    pool = ScriptedPool()
    await answer(
        ScriptedEngine(turns=[["a", DREAM], [EOS]], dreams=[states]),
        pool,
        images={"steps": 9, "guidance_scale": 3.5, "scheduler": "ddpm", "previews": 2, "format": "jpeg"},
    )
    (job,) = pool.jobs
    assert job.states is states
    assert job.negative_states is None
    assert (job.steps, job.guidance_scale, job.scheduler, job.previews) == (9, 3.5, "ddpm", 2)
    assert (job.width, job.height, job.format, job.id) == (16, 16, "jpeg", "doc-image-0")


async def test_dream_states_are_those_of_the_context_without_the_dream_token() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], [EOS]])
    await answer(engine)
    (dream,) = engine.dream_calls
    assert dream.prompt.token_ids == engine.calls[0].prompt.token_ids + text_ids(engine, "one")


async def test_a_negative_prompt_is_dreamt_after_bos_alone() -> None:
    negative = torch.ones(4, 8)
    engine = ScriptedEngine(turns=[["one", DREAM], [EOS]], dreams=[torch.zeros(4, 8), negative])
    pool = ScriptedPool()
    await answer(engine, pool, images={"negative_prompt": "ugly </s>"})
    assert engine.dream_calls[1].prompt.token_ids == (1, *text_ids_of_letters(engine, "ugly </s>"))
    assert pool.jobs[0].negative_states is negative


def text_ids_of_letters(engine: ScriptedEngine, text: str) -> tuple[int, ...]:
    """Ids of a text whose letters are tokens of their own, control tokens or not."""
    return tuple(i for letter in text for i in engine.tokenizer.encode(letter).ids)


async def test_without_guidance_no_negative_prompt_is_dreamt() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], [EOS]])
    await answer(engine, images={"negative_prompt": "ugly", "guidance_scale": 1.0})
    assert len(engine.dream_calls) == 1


async def test_with_feedback_the_model_reads_its_dream_and_the_picture() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]])
    pool = ScriptedPool()
    made = await answer(engine, pool)
    first, second = engine.calls[0].prompt, engine.calls[1].prompt
    block = (*engine.config.dream_block, *engine.config.image_block)
    assert second.token_ids == first.token_ids + text_ids(engine, "one") + block
    (shown,) = second.images
    assert shown.pixels.size == (16, 16)
    assert shown.pixels.tobytes() == rendered(pool.jobs[0]).pixels.tobytes()
    queries, patches = engine.config.num_dream_queries + 1, engine.config.num_image_tokens + 2
    assert made.document.usage.image_tokens == queries + patches


async def test_a_picture_fed_back_has_the_id_that_it_has_when_it_is_sent_back() -> None:
    engine, pool = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), ScriptedPool()
    await answer(engine, pool)
    sent_back = decode_image(rendered(pool.jobs[0]).data, ImageInputLimits(max_bytes=10**6, max_pixels=10**6))
    assert engine.calls[1].prompt.images[0].id == sent_back.digest


async def test_without_feedback_the_model_reads_its_dream_alone() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]])
    made = await answer(engine, images={"feedback": "none"})
    first, second = engine.calls[0].prompt, engine.calls[1].prompt
    assert second.token_ids == first.token_ids + text_ids(engine, "one") + tuple(engine.config.dream_block)
    assert second.images == ()
    assert made.document.usage.image_tokens == engine.config.num_dream_queries + 1


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_usage_is_the_length_of_the_whole_context(feedback: str) -> None:
    engine = ScriptedEngine(turns=[*TWO_PICTURES[:2], ["three"]])
    made = await answer(engine, images={"feedback": feedback})
    usage = made.document.usage
    last = engine.context_length(engine.calls[-1].prompt) + len("three")
    assert usage.prompt_tokens + usage.completion_tokens + usage.image_tokens == last
    assert (usage.images, usage.denoising_steps) == (2, 6)


async def test_text_waits_for_a_picture_that_is_fed_back() -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]])
    pool = ScriptedPool(jobs=[lambda job: [Queued(2, 1.5), gate, Completed(rendered(job))]])
    events = interceptor(engine, pool).events()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, ImageQueued):
                assert (event.position, event.eta_s) == (2, 1.5)
                break
        await gate.reached.wait()
        assert len(engine.calls) == 1
        gate.open()
        kinds = [type(event).__name__ async for event in events]
    assert kinds[:2] == ["ImageCompleted", "TextDelta"]


async def test_without_feedback_text_goes_on_while_pictures_are_drawn() -> None:
    gates = [Gate(), Gate()]

    def drawn_behind(gate: Gate) -> Callable[[RenderJob], list[JobItem]]:
        return lambda job: [Queued(0, None), gate, Completed(rendered(job))]

    engine = ScriptedEngine(turns=TWO_PICTURES)
    pool = ScriptedPool(jobs=[drawn_behind(gate) for gate in gates])
    made = asyncio.create_task(answer(engine, pool, images={"feedback": "none"}))
    await asyncio.gather(*(gate.reached.wait() for gate in gates))
    await until(lambda: len(engine.requests.finished) == 5)  # three texts, two dreams
    for gate in reversed(gates):
        gate.open()
    finished = await made
    assert finished.parts == ["one", "IMAGE", "two", "IMAGE", "three"]
    text = max(i for i, event in enumerate(finished.events) if isinstance(event, TextDelta))
    assert text < finished.kinds.index("ImageCompleted")
    assert finished.kinds[-1] == "DocumentCompleted"


async def test_text_after_a_picture_never_overtakes_the_beginning_of_its_part() -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]])
    pool = ScriptedPool(jobs=[lambda job: [gate, Queued(0, None), Completed(rendered(job))]])
    made = asyncio.create_task(answer(engine, pool, images={"feedback": "none"}))
    await gate.reached.wait()
    await until(lambda: len(engine.requests.finished) == 3)
    gate.open()
    assert (await made).parts == ["one", "IMAGE", "two"]


async def test_when_the_image_budget_is_spent_the_dream_token_is_banned() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", DREAM], ["three", EOS]])
    made = await answer(engine, images={"max": 2})
    dream = engine.config.dream_token_id
    assert [dream in call.sampling.banned_token_ids for call in engine.calls] == [False, False, True]
    assert [dream in call.sampling.stop_token_ids for call in engine.calls] == [True, True, False]
    assert made.document.finish_reason == "stop"


async def test_without_an_image_budget_the_dream_token_is_banned_from_the_start() -> None:
    engine = ScriptedEngine(turns=[["one", EOS]])
    await answer(engine, images={"max": 0})
    assert engine.config.dream_token_id in engine.calls[0].sampling.banned_token_ids


@pytest.mark.parametrize(("feedback", "block"), [("image", 6 + 6), ("none", 6)])
async def test_a_context_without_room_for_a_picture_ends_the_document(feedback: str, block: int) -> None:
    probe = await answer(ScriptedEngine(turns=[[EOS]]))
    length = probe.document.usage.prompt_tokens + len("one")
    for room, parts in ((block, ["one"]), (block + 1, ["one", "IMAGE", "t"])):
        engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]], max_model_len=length + room)
        pool = ScriptedPool()
        made = await answer(engine, pool, images={"feedback": feedback})
        assert made.parts == parts
        assert (made.document.finish_reason, made.document.usage.length_limit) == ("length", "context")
        assert len(engine.dream_calls) == len(pool.jobs) == made.document.usage.images


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_a_failed_render_fails_its_part_and_the_text_goes_on(feedback: str) -> None:
    engine = ScriptedEngine(turns=TWO_PICTURES)
    failing: list[JobItem] = [Queued(0, None), Progress(1, 3), RenderError("render_failed", "out of paint")]
    made = await answer(engine, ScriptedPool(jobs=[failing]), images={"feedback": feedback})
    assert made.parts == ["one", "render_failed", "two", "IMAGE", "three"]
    failed = next(event for event in made.events if isinstance(event, ImageFailed))
    assert failed.message == "out of paint"
    assert (made.document.usage.images, made.document.usage.denoising_steps) == (1, 3)


async def test_a_failed_picture_leaves_its_dream_queries_in_the_context() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]])
    await answer(engine, ScriptedPool(jobs=[[RenderError("unavailable", "no worker")]]))
    expected = engine.calls[0].prompt.token_ids + text_ids(engine, "one") + tuple(engine.config.dream_block)
    assert engine.calls[1].prompt.token_ids == expected
    assert engine.calls[1].prompt.images == ()


async def test_a_failed_picture_counts_against_the_image_budget() -> None:
    engine = ScriptedEngine(turns=[[DREAM], ["two", EOS]])
    await answer(engine, ScriptedPool(jobs=[[RenderError("unavailable", "no worker")]]), images={"max": 1})
    assert engine.config.dream_token_id in engine.calls[1].sampling.banned_token_ids


async def test_failed_dream_states_fail_the_part_and_the_text_goes_on() -> None:
    engine = ScriptedEngine(turns=TWO_PICTURES, dreams=[EngineError("/secret/path")])
    made = await answer(engine)
    assert made.parts == ["one", "dream_failed", "two", "IMAGE", "three"]
    failed = next(event for event in made.events if isinstance(event, ImageFailed))
    assert "secret" not in failed.message


async def test_an_engine_that_dies_dreaming_fails_the_document() -> None:
    made = await answer(ScriptedEngine(turns=TWO_PICTURES, dreams=[EngineDeadError("gone")]))
    assert made.document.error is not None
    assert made.document.error.code == "engine_unavailable"


async def test_a_picture_that_takes_too_long_fails_and_its_job_is_cancelled() -> None:
    pool = ScriptedPool(jobs=[[Queued(0, None), Gate()]])
    made = await answer(ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), pool, image_timeout_s=0.01)
    assert made.parts == ["one", "timeout", "two"]
    assert pool.record.aborted == ["doc-image-0"]


async def test_dream_states_that_take_too_long_fail_the_picture_and_their_request_is_aborted() -> None:
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]], dreams=[Gate()])
    made = await answer(engine, image_timeout_s=0.01)
    assert made.parts == ["one", "timeout", "two"]
    assert engine.requests.aborted == ["doc-image-0-dream"]


async def test_a_job_cancelled_from_elsewhere_fails_its_part() -> None:
    gate = Gate()
    pool = ScriptedPool(jobs=[[Queued(0, None), gate]])
    made = asyncio.create_task(answer(ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), pool))
    await gate.reached.wait()
    await pool.cancel("doc-image-0")
    assert (await made).parts == ["one", "cancelled", "two"]


async def test_a_pool_that_gives_no_picture_fails_the_part() -> None:
    made = await answer(ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), ScriptedPool(jobs=[[Queued(0, None)]]))
    assert made.parts == ["one", "render_failed", "two"]


@pytest.mark.parametrize("feedback", ["image", "none"])
async def test_an_unexpected_error_of_the_pool_fails_the_document(feedback: str) -> None:
    pool = ScriptedPool(jobs=[[ZeroDivisionError("/secret/path")]])
    made = await answer(ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), pool, images={"feedback": feedback})
    assert made.document.error is not None
    assert made.document.error.code == "internal_error"


async def jobs(image_seed: int | None, seed: int | None) -> list[RenderJob]:
    pool = ScriptedPool()
    await answer(ScriptedEngine(turns=TWO_PICTURES), pool, seed=seed, images={"seed": image_seed})
    return pool.jobs


async def test_image_seeds_follow_from_the_seed_of_the_images_and_their_number() -> None:
    first, second = await jobs(image_seed=5, seed=9)
    again = await jobs(image_seed=5, seed=10)
    assert first.seed == 5
    assert second.seed != 5
    assert [job.seed for job in again] == [first.seed, second.seed]


async def test_image_seeds_follow_from_the_seed_of_the_request_when_the_images_have_none() -> None:
    assert [j.seed for j in await jobs(None, 9)] == [j.seed for j in await jobs(9, None)]


async def test_without_any_seed_pictures_differ_from_answer_to_answer() -> None:
    drawn = [job.seed for _ in range(4) for job in await jobs(None, None)]
    assert len(set(drawn)) > 1


async def test_a_complete_document_leaves_the_machine_done() -> None:
    making = interceptor(ScriptedEngine(turns=TWO_PICTURES))
    states = [making.state]
    async with aclosing(making.events()) as events:
        assert [event async for event in events]
    assert [*states, making.state] == [State.DECODING, State.DONE]
