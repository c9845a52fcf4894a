"""The stages around the engine: what they may and may not wait for, and how jobs end."""

import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.diffusion import pipeline as pipeline_module
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.encoding import encode_image
from models.diffusion.job import Completed, Failed, Preview, Progress, RenderJob
from models.diffusion.open_jobs import EngineUnavailableError
from models.diffusion.pipeline import RenderPipeline
from tests.diffusion.updates import PATIENCE_S, Updates
from tests.tiny_diffusion import EVERY_PREVIEW, STATES_SHAPE, make_render_job, random_decoder, random_states


class Gate:
    """Holds up the calls that go through it until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, held up."""

        def held_up(*args: Any) -> Any:
            self.entered.set()
            assert self.opened.wait(PATIENCE_S)
            return call(*args)

        return held_up


def recorded(call: Callable[..., Any], keep: Callable[[torch.Tensor], None]) -> Callable[..., Any]:
    """A call whose argument is kept."""

    def recording(argument: torch.Tensor) -> Any:
        keep(argument)
        return call(argument)

    return recording


@pytest.fixture
def pipeline(decoder: DiffusionDecoder, negative_states: torch.Tensor, updates: Updates) -> Iterator[RenderPipeline]:
    pipeline = RenderPipeline(
        decoder,
        STATES_SHAPE,
        negative_states,
        updates.emit,
        max_batch=4,
        max_decode_batch=3,
        preview_share=EVERY_PREVIEW,
    )
    pipeline.start()
    yield pipeline
    pipeline.close(drain_s=0)


def test_a_job_tells_of_each_step_and_ends_with_its_picture(pipeline: RenderPipeline, updates: Updates) -> None:
    pipeline.add(make_render_job("a", steps=5, previews=2))
    assert isinstance(updates.outcome("a"), Completed)
    told = updates.of("a")
    assert [update for update in told if isinstance(update, Progress)] == [Progress(n, 5) for n in range(1, 6)]
    assert [update.index for update in told if isinstance(update, Preview)] == [0, 1]


def test_the_encoded_picture_holds_the_pixels_that_the_vae_drew(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents: list[torch.Tensor] = []
    monkeypatch.setattr(decoder, "decode", recorded(decoder.decode, latents.append))
    pipeline.add(make_render_job("a", width=64, height=32))
    outcome = updates.outcome("a")
    assert isinstance(outcome, Completed)
    assert outcome.image.pixels.shape == (32, 64, 3)
    assert not outcome.image.pixels.flags.writeable
    np.testing.assert_array_equal(outcome.image.pixels, random_decoder().decode(latents[0])[0].numpy())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(outcome.image.data))), outcome.image.pixels)


def test_decoding_does_not_hold_up_admission_and_steps(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(decoder, "decode", gate.before(decoder.decode))
    pipeline.add(make_render_job("short", steps=1))
    assert gate.entered.wait(PATIENCE_S)
    pipeline.add(make_render_job("long", steps=30))
    updates.wait_for_steps("long", 30)
    assert updates.outcomes("short") == []
    gate.opened.set()
    assert isinstance(updates.outcome("short"), Completed)
    assert isinstance(updates.outcome("long"), Completed)


def test_encoding_does_not_hold_up_decoding_and_steps(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    decoded: SimpleQueue[torch.Tensor] = SimpleQueue()
    monkeypatch.setattr(pipeline_module, "encode_image", gate.before(encode_image))
    monkeypatch.setattr(decoder, "decode", recorded(decoder.decode, decoded.put))
    pipeline.add(make_render_job("first", steps=1))
    assert gate.entered.wait(PATIENCE_S)
    pipeline.add(make_render_job("second", steps=10, previews=3))
    updates.wait_for_steps("second", 10)
    pictures = 0
    while pictures < 5:
        pictures += len(decoded.get(timeout=PATIENCE_S))
    assert updates.outcomes("first") == []
    gate.opened.set()
    assert isinstance(updates.outcome("second"), Completed)


def test_pictures_that_are_ready_together_are_decoded_together_up_to_the_limit(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    decoded: list[torch.Tensor] = []
    monkeypatch.setattr(decoder, "decode", recorded(gate.before(decoder.decode), decoded.append))
    pipeline.add(make_render_job("first", steps=1))
    assert gate.entered.wait(PATIENCE_S)
    names = ["a", "b", "c", "d"]
    for name in names:
        pipeline.add(make_render_job(name, steps=2))
    for name in names:
        updates.wait_for_steps(name, 2)
    pipeline.add(make_render_job("wide", steps=2, width=64))
    updates.wait_for_steps("wide", 2)
    gate.opened.set()
    assert all(isinstance(updates.outcome(name), Completed) for name in [*names, "wide"])
    assert [(len(latents), latents.shape[-1]) for latents in decoded] == [(1, 16), (3, 16), (1, 16), (1, 32)]


def test_a_preview_of_a_big_picture_is_decoded_small(pipeline: RenderPipeline, updates: Updates) -> None:
    pipeline.add(make_render_job("big", width=128, height=64, steps=2, previews=1))
    outcome = updates.outcome("big")
    assert isinstance(outcome, Completed)
    assert outcome.image.pixels.shape == (64, 128, 3)
    (preview,) = (update for update in updates.of("big") if isinstance(update, Preview))
    assert preview.image.pixels.shape == (32, 64, 3)


def test_a_preview_and_a_picture_of_one_shape_are_not_decoded_together(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(decoder, "decode", gate.before(decoder.decode))
    pipeline.add(make_render_job("first", steps=1))
    assert gate.entered.wait(PATIENCE_S)
    pipeline.add(make_render_job("big", width=128, height=64, steps=2, previews=1))
    updates.wait_for_steps("big", 2)
    pipeline.add(make_render_job("after", steps=1))
    updates.wait_for_steps("after", 1)
    gate.opened.set()
    outcome = updates.outcome("big")
    assert isinstance(outcome, Completed)
    assert outcome.image.pixels.shape == (64, 128, 3)
    (preview,) = (update for update in updates.of("big") if isinstance(update, Preview))
    assert preview.image.pixels.shape == (32, 64, 3)


def test_previews_that_denoising_has_not_paid_for_are_left_out_and_counted(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, updates: Updates
) -> None:
    frugal = RenderPipeline(
        decoder, STATES_SHAPE, negative_states, updates.emit, max_decode_batch=1, preview_share=1e-9
    )
    frugal.start()
    frugal.add(make_render_job("a", steps=8, previews=3))
    assert isinstance(updates.outcome("a"), Completed)
    assert [update.index for update in updates.of("a") if isinstance(update, Preview)] == [0]
    frugal.close(drain_s=0)
    assert (frugal.stats().previews, frugal.stats().previews_left_out) == (1, 2)


def test_latents_that_are_not_finite_fail_their_job_alone(pipeline: RenderPipeline, updates: Updates) -> None:
    pipeline.add(make_render_job("bad", states=torch.full(STATES_SHAPE, torch.nan), steps=3))
    pipeline.add(make_render_job("good", steps=3))
    assert updates.outcome("bad") == Failed("render_failed", "The picture could not be drawn.")
    assert isinstance(updates.outcome("good"), Completed)


def test_a_picture_that_cannot_be_encoded_fails_its_job_alone(
    pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.add(make_render_job("bad", format="bmp"))
    pipeline.add(make_render_job("good"))
    assert updates.outcome("bad") == Failed("render_failed", "The picture could not be drawn.")
    assert isinstance(updates.outcome("good"), Completed)


def test_a_preview_that_cannot_be_decoded_costs_only_the_preview(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = decoder.decode
    calls: list[int] = []

    def fails_once(latents: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        if len(calls) == 1:
            raise RuntimeError("no memory for a preview")
        return decode(latents)

    monkeypatch.setattr(decoder, "decode", fails_once)
    pipeline.add(make_render_job("a", previews=1))
    assert isinstance(updates.outcome("a"), Completed)
    assert not any(isinstance(update, Preview) for update in updates.of("a"))


def test_nothing_is_told_of_a_job_after_it_was_cancelled_even_while_it_is_decoded(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(decoder, "decode", gate.before(decoder.decode))
    pipeline.add(make_render_job("cancelled"))
    assert gate.entered.wait(PATIENCE_S)
    assert pipeline.cancel("cancelled")
    assert not pipeline.cancel("cancelled")
    pipeline.add(make_render_job("next"))
    gate.opened.set()
    updates.outcome("next")
    assert updates.of("cancelled")[-1] == Failed("cancelled", "The picture was cancelled.")
    assert len(updates.outcomes("cancelled")) == 1


def test_a_job_that_expires_ends_as_timed_out(pipeline: RenderPipeline, updates: Updates) -> None:
    pipeline.add(make_render_job("slow", steps=999))
    updates.wait_for_steps("slow", 1)
    assert pipeline.expire("slow")
    assert not pipeline.expire("slow")
    assert updates.of("slow")[-1] == Failed("timeout", "The picture took too long.")


def test_without_the_empty_prompt_a_job_with_guidance_must_bring_its_negative_states(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, updates: Updates
) -> None:
    worker = RenderPipeline(decoder, STATES_SHAPE, None, updates.emit)
    worker.start()
    with pytest.raises(ValueError, match="negative states"):
        worker.add(make_render_job("a"))
    worker.add(make_render_job("a", negative_states=negative_states))
    worker.add(make_render_job("unguided", guidance_scale=1.0))
    worker.close(drain_s=PATIENCE_S)
    assert isinstance(updates.outcome("a"), Completed)
    assert isinstance(updates.outcome("unguided"), Completed)


def test_an_id_that_is_running_is_refused(
    decoder: DiffusionDecoder, pipeline: RenderPipeline, updates: Updates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(decoder, "decode", gate.before(decoder.decode))
    pipeline.add(make_render_job("a"))
    with pytest.raises(ValueError, match="already"):
        pipeline.add(make_render_job("a"))
    gate.opened.set()
    assert isinstance(updates.outcome("a"), Completed)


@pytest.mark.parametrize("stage", ["predict", "decode", "encode"])
def test_a_thread_that_dies_fails_all_jobs_and_takes_no_more(
    decoder: DiffusionDecoder,
    pipeline: RenderPipeline,
    updates: Updates,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    def dies(*_: Any) -> Any:
        raise SystemExit("the thread is gone")

    if stage == "encode":
        monkeypatch.setattr(pipeline_module, "encode_image", dies)
    else:
        monkeypatch.setattr(decoder, stage, dies)
    pipeline.add(make_render_job("dying", steps=1))
    unavailable = updates.outcome("dying")
    assert isinstance(unavailable, Failed)
    assert unavailable.code == "unavailable"
    with pytest.raises(EngineUnavailableError):
        pipeline.add(make_render_job("late"))
    assert not pipeline.alive


def test_closing_lets_jobs_finish_that_have_the_time(pipeline: RenderPipeline, updates: Updates) -> None:
    for number in range(6):
        pipeline.add(make_render_job(str(number), steps=number + 1))
    pipeline.close(drain_s=PATIENCE_S)
    assert all(isinstance(updates.outcomes(str(number))[0], Completed) for number in range(6))
    with pytest.raises(EngineUnavailableError):
        pipeline.add(make_render_job("late"))


def test_closing_ends_the_jobs_that_have_no_time_left(pipeline: RenderPipeline, updates: Updates) -> None:
    pipeline.add(make_render_job("long", steps=999))
    updates.wait_for_steps("long", 1)
    pipeline.close(drain_s=0)
    assert updates.outcomes("long") == [Failed("unavailable", "The service is shutting down.")]
    assert not pipeline.alive


arrivals = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "steps": st.integers(1, 4),
                "width": st.sampled_from([32, 64]),
                "guidance_scale": st.sampled_from([1.0, 3.0]),
                "scheduler": st.sampled_from(["ddpm", "ddim", "dpmpp_2m"]),
                "previews": st.integers(0, 2),
                # Out of range for a generator: such a job fails when it is admitted.
                "seed": st.sampled_from([1, 2, 2**70]),
            }
        ),
        st.sampled_from(["keep", "cancel at once", "cancel after a step"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=arrivals)
def test_every_job_ends_exactly_once_whatever_arrives_and_is_cancelled(
    arrivals: list[tuple[dict[str, Any], str]],
) -> None:
    updates = Updates()
    pipeline = RenderPipeline(random_decoder(), STATES_SHAPE, random_states(999), updates.emit, max_batch=3)
    pipeline.start()
    jobs: list[RenderJob] = []
    for number, (changes, fate) in enumerate(arrivals):
        job = make_render_job(str(number), **changes)
        jobs.append(job)
        pipeline.add(job)
        if fate == "cancel after a step":
            updates.wait(partial(updates.of, job.id))
        if fate != "keep":
            pipeline.cancel(job.id)
    pipeline.close(drain_s=PATIENCE_S)

    for job, (_, fate) in zip(jobs, arrivals, strict=True):
        told = updates.of(job.id)
        (outcome,) = updates.outcomes(job.id)
        assert told[-1] is outcome
        if fate == "keep":
            assert isinstance(outcome, Failed) == (job.seed == 2**70)
    stats = pipeline.stats()
    assert stats.completed + stats.failed + stats.cancelled == len(jobs)
