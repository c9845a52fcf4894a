"""Who is in a batch, from one step to the next. Steps are counted, nothing is timed."""

import logging
from collections.abc import Callable

import pytest
import torch

from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Failed
from models.diffusion.sample import Sample
from tests.diffusion.stepped_engine import SteppedEngine
from tests.tiny_diffusion import make_render_job


@pytest.fixture
def unet_rows(decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each UNet call."""
    rows: list[int] = []
    predict = decoder.predict

    def recorded(latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        assert len(latents) == len(timesteps) == condition.rows
        rows.append(len(latents))
        return predict(latents, timesteps, condition)

    monkeypatch.setattr(decoder, "predict", recorded)
    return rows


def test_a_step_makes_one_unet_call_over_both_guidance_branches_of_all_jobs(
    unet_rows: list[int], stepped: SteppedEngine
) -> None:
    stepped.add(
        make_render_job("guided"),
        make_render_job("unguided", guidance_scale=1.0),
        make_render_job("other", scheduler="ddim"),
    )
    stepped.step()
    assert unet_rows == [5]


def test_a_job_joins_a_running_batch_at_the_next_step(unet_rows: list[int], stepped: SteppedEngine) -> None:
    stepped.add(make_render_job("first", steps=10))
    for _ in range(3):
        stepped.step()
    stepped.add(make_render_job("second", steps=10))
    stepped.step()
    assert (stepped.steps_done("first"), stepped.steps_done("second")) == (4, 1)
    assert unet_rows == [2, 2, 2, 4]


def test_a_finished_job_makes_room_for_a_waiting_one_at_the_next_step(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=2)
    stepped.add(
        make_render_job("short", steps=2), make_render_job("long", steps=9), make_render_job("waiting", steps=9)
    )
    for _ in range(3):
        stepped.step()
    assert [stepped.steps_done(name) for name in ("short", "long", "waiting")] == [2, 3, 1]


def test_jobs_are_admitted_in_their_order_of_arrival(decoder: DiffusionDecoder, negative_states: torch.Tensor) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=2)
    drawn = stepped.draw(*(make_render_job(name, steps=3) for name in "abcdef"))
    assert list(drawn) == list("abcdef")


def test_waiting_jobs_of_high_priority_are_admitted_before_normal_ones_each_in_their_order_of_arrival(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=1)
    stepped.add(make_render_job("running", steps=3))
    stepped.step()
    stepped.add(make_render_job("normal 1"), make_render_job("high 1", priority="high"))
    stepped.add(make_render_job("normal 2"), make_render_job("high 2", priority="high"))
    assert list(stepped.draw()) == ["running", "high 1", "high 2", "normal 1", "normal 2"]


def test_a_job_of_high_priority_takes_no_place_from_one_that_has_begun(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=1)
    stepped.add(make_render_job("begun", steps=3))
    stepped.step()
    stepped.add(make_render_job("high", priority="high"))
    stepped.step()
    assert (stepped.steps_done("begun"), stepped.steps_done("high")) == (2, 0)


def test_no_batch_is_bigger_than_the_limit(
    decoder: DiffusionDecoder, unet_rows: list[int], negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=3)
    stepped.draw(*(make_render_job(str(number), steps=2) for number in range(7)))
    assert unet_rows == [6, 6, 6, 6, 2, 2]


def test_a_cancelled_job_frees_its_place_at_the_next_step(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=1)
    stepped.add(make_render_job("cancelled", steps=50), make_render_job("waiting", steps=2))
    stepped.step()
    stepped.open_jobs.end("cancelled", Failed("cancelled", "not wanted"))
    stepped.step()
    assert (stepped.steps_done("cancelled"), stepped.steps_done("waiting")) == (1, 1)


def test_a_job_cancelled_while_it_waits_is_never_drawn(
    decoder: DiffusionDecoder, unet_rows: list[int], negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=1)
    stepped.add(make_render_job("running", steps=3), make_render_job("cancelled"))
    stepped.step()
    stepped.open_jobs.end("cancelled", Failed("cancelled", "not wanted"))
    assert list(stepped.draw()) == ["running"]
    assert unet_rows == [2, 2, 2]


def test_sizes_take_turns_however_many_jobs_one_of_them_has(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    stepped = SteppedEngine(decoder, negative_states, max_batch=2)
    stepped.add(*(make_render_job(f"small {number}", steps=6) for number in range(8)))
    stepped.step()
    stepped.add(make_render_job("wide", width=64, steps=6))
    for _ in range(12):
        stepped.step()
    assert stepped.steps_done("wide") == 6
    assert stepped.steps_done("small 0") == 6


def test_a_size_that_arrives_waits_for_one_turn_of_each_other_size(stepped: SteppedEngine) -> None:
    stepped.add(make_render_job("a", width=32, steps=9), make_render_job("b", width=48, steps=9))
    stepped.step()
    stepped.add(make_render_job("c", width=64, steps=9))
    stepped.step()
    stepped.step()
    assert [stepped.steps_done(name) for name in "abc"] == [2, 1, 0]
    stepped.step()
    assert stepped.steps_done("c") == 1


def test_a_scheduler_that_raises_fails_its_job_alone(
    decoder: DiffusionDecoder,
    negative_states: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = SteppedEngine(decoder, negative_states).draw(make_render_job("good"))["good"]
    advance = Sample.advance

    def faulty(sample: Sample, output: torch.Tensor) -> torch.Tensor | None:
        if sample.job.id == "bad" and sample.step == 2:
            raise ArithmeticError("the scheduler broke")
        return advance(sample, output)

    monkeypatch.setattr(Sample, "advance", faulty)
    stepped = SteppedEngine(decoder, negative_states)
    drawn = stepped.draw(make_render_job("bad"), make_render_job("good"), make_render_job("fine", scheduler="ddim"))
    assert set(drawn) == {"good", "fine"}
    assert stepped.outcomes() == {"bad": Failed("render_failed", "The picture could not be drawn.")}
    torch.testing.assert_close(drawn["good"], undisturbed, atol=1e-3, rtol=0)


def test_a_job_that_cannot_be_admitted_fails_alone(stepped: SteppedEngine) -> None:
    drawn = stepped.draw(make_render_job("bad", seed=2**65), make_render_job("good"))
    assert set(drawn) == {"good"}
    assert set(stepped.outcomes()) == {"bad"}


class PickyUNet:
    """Makes a decoder's UNet call fail on certain batches."""

    def __init__(self, decoder: DiffusionDecoder, refuses: Callable[[Conditioning], Exception | None]) -> None:
        self._predict = decoder.predict
        self._refuses = refuses
        self.accepted: list[int] = []

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        if error := self._refuses(condition):
            raise error
        self.accepted.append(len(latents))
        return self._predict(latents, timesteps, condition)


def test_a_job_that_breaks_the_shared_unet_call_is_found_and_fails_alone(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = make_render_job("bad", guidance_scale=1.0)
    poisoned_row = decoder.condition(poison.states).states[0]

    def refuses(condition: Conditioning) -> Exception | None:
        return ValueError("poison") if any(torch.equal(row, poisoned_row) for row in condition.states) else None

    unet = PickyUNet(decoder, refuses)
    monkeypatch.setattr(decoder, "predict", unet)
    stepped = SteppedEngine(decoder, negative_states)
    drawn = stepped.draw(*(make_render_job(name, guidance_scale=1.0, steps=2) for name in ("a", "b", "c")), poison)
    assert set(drawn) == {"a", "b", "c"}
    assert set(stepped.outcomes()) == {"bad"}
    assert unet.accepted == [2, 1, 3], "halved down to the culprit in the first step, whole in the second"


def test_a_batch_that_does_not_fit_in_memory_is_drawn_in_smaller_ones_from_then_on(
    decoder: DiffusionDecoder,
    negative_states: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unet = PickyUNet(decoder, lambda condition: torch.OutOfMemoryError("full") if condition.rows > 2 else None)
    monkeypatch.setattr(decoder, "predict", unet)
    stepped = SteppedEngine(decoder, negative_states)
    names = ["a", "b", "c", "d"]
    with caplog.at_level(logging.WARNING):
        drawn = stepped.draw(*(make_render_job(name, guidance_scale=1.0, steps=3) for name in names))
    assert set(drawn) == set(names)
    assert stepped.outcomes() == {}
    assert unet.accepted == [2] * 6
    assert sum("out of memory" in record.message for record in caplog.records) == 1


def test_jobs_share_the_smaller_batches_evenly(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = PickyUNet(decoder, lambda condition: torch.OutOfMemoryError("full") if condition.rows > 2 else None)
    monkeypatch.setattr(decoder, "predict", unet)
    stepped = SteppedEngine(decoder, negative_states)
    stepped.add(*(make_render_job(name, guidance_scale=1.0, steps=9) for name in "abcd"))
    for _ in range(5):
        stepped.step()
    assert [stepped.steps_done(name) for name in "abcd"] == [3, 3, 3, 3]


def test_a_device_that_is_lost_takes_the_engine_down_instead_of_blaming_one_job(
    decoder: DiffusionDecoder, stepped: SteppedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "predict", PickyUNet(decoder, lambda _: torch.AcceleratorError("lost")))
    stepped.add(make_render_job("a"), make_render_job("b"))
    with pytest.raises(torch.AcceleratorError):
        stepped.step()
    assert stepped.outcomes() == {}


def test_a_job_that_the_decoder_cannot_draw_is_refused(stepped: SteppedEngine) -> None:
    with pytest.raises(ValueError, match="width and height"):
        stepped.engine.validate(make_render_job("a", width=33))


def test_steps_and_batches_are_counted(stepped: SteppedEngine) -> None:
    stepped.add(make_render_job("a", steps=2), make_render_job("b", steps=3))
    stepped.step()
    stats = stepped.counters.snapshot()
    assert (stats.steps, stats.job_steps, stats.last_batch, stats.running, stats.waiting) == (1, 2, 2, 2, 0)
    stepped.draw()
    stats = stepped.counters.snapshot()
    assert (stats.steps, stats.job_steps, stats.last_batch, stats.running) == (3, 5, 1, 0)
    assert stats.batch_histogram.cumulative[:2] == (1, 3)
    assert stats.batch_histogram.sum == 5
    assert stats.step_histogram.sum == pytest.approx(stats.busy_s)
    assert sum(stats.queue_histogram.counts) == 2
