"""How many jobs a worker may take: those that find a place, none that would wait where another worker is free."""

import threading
from collections.abc import Iterator

import pytest
import torch

from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.pipeline import RenderPipeline
from tests.diffusion.updates import PATIENCE_S, Updates
from tests.tiny_diffusion import STATES_SHAPE, make_render_job

MAX_BATCH = 4


class Steps:
    """The UNet calls of a decoder, which happen when the test allows them."""

    def __init__(self, decoder: DiffusionDecoder) -> None:
        self.memory_rows = 1000
        self.begun = threading.Semaphore(0)
        self._predict = decoder.predict
        self._allowed = threading.Semaphore(0)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        if len(latents) > self.memory_rows:
            raise torch.OutOfMemoryError("full")
        self.begun.release()
        assert self._allowed.acquire(timeout=PATIENCE_S)
        return self._predict(latents, timesteps, condition)

    def allow(self, calls: int) -> None:
        self._allowed.release(calls)


@pytest.fixture
def steps(decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps(decoder)
    monkeypatch.setattr(decoder, "predict", steps)
    return steps


@pytest.fixture
def pipeline(
    decoder: DiffusionDecoder, steps: Steps, negative_states: torch.Tensor, updates: Updates
) -> Iterator[RenderPipeline]:
    pipeline = RenderPipeline(decoder, STATES_SHAPE, negative_states, updates.emit, max_batch=MAX_BATCH)
    pipeline.start()
    yield pipeline
    steps.allow(1000)
    pipeline.close(drain_s=0)


def test_an_idle_worker_has_room_for_a_whole_batch(pipeline: RenderPipeline) -> None:
    assert pipeline.room() == MAX_BATCH


def test_a_job_takes_its_room_when_it_is_added_before_any_step(pipeline: RenderPipeline) -> None:
    room = []
    for number in range(MAX_BATCH + 1):
        pipeline.add(make_render_job(str(number), steps=1))
        room.append(pipeline.room())
    assert room == [3, 2, 1, 0, 0]


def test_a_job_whose_last_step_is_the_next_one_counts_as_gone(
    pipeline: RenderPipeline, steps: Steps, updates: Updates
) -> None:
    pipeline.add(make_render_job("short", steps=3))
    room = [pipeline.room()]
    for step in range(1, 4):
        steps.allow(1)
        updates.wait_for_steps("short", step)
        room.append(pipeline.room())
    assert room == [3, 3, 4, 4]


def test_jobs_that_there_is_room_for_are_all_in_the_step_after_the_one_in_progress(
    pipeline: RenderPipeline, steps: Steps, updates: Updates
) -> None:
    pipeline.add(make_render_job("leaving", steps=2))
    steps.allow(1)
    updates.wait_for_steps("leaving", 1)
    names = [f"new {number}" for number in range(pipeline.room())]
    assert len(names) == MAX_BATCH
    for name in names:
        pipeline.add(make_render_job(name, steps=9))
    assert pipeline.room() == 0
    steps.allow(2)
    for name in names:
        updates.wait_for_steps(name, 1)


def test_a_cancelled_job_gives_its_room_back_at_once(pipeline: RenderPipeline) -> None:
    for name in ("a", "b"):
        pipeline.add(make_render_job(name))
    pipeline.cancel("a")
    assert pipeline.room() == 3


def test_the_fullest_of_the_sizes_at_work_decides(pipeline: RenderPipeline) -> None:
    for number in range(3):
        pipeline.add(make_render_job(f"small {number}"))
    pipeline.add(make_render_job("wide", width=64))
    assert pipeline.room() == 1


def test_a_size_whose_batches_had_to_shrink_has_less_room(
    pipeline: RenderPipeline, steps: Steps, updates: Updates
) -> None:
    steps.memory_rows = 2
    pipeline.add(make_render_job("a", guidance_scale=1.0, steps=99))
    assert steps.begun.acquire(timeout=PATIENCE_S)
    for name in "bcd":
        pipeline.add(make_render_job(name, guidance_scale=1.0, steps=99))
    steps.allow(20)
    for name in "abcd":
        updates.wait_for_steps(name, 3)
    assert pipeline.room() == 0
    for name in "bcd":
        pipeline.cancel(name)
    assert pipeline.room() == 1


def test_a_pipeline_that_takes_no_jobs_has_no_room(pipeline: RenderPipeline) -> None:
    pipeline.close(drain_s=0)
    assert pipeline.room() == 0
