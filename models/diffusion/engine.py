"""The diffusion engine: continuous batching of denoising steps.

An engine holds a running set of jobs. Each step admits waiting jobs, makes one UNet call over the whole batch, with
every sample at its own timestep, moves each sample with its own scheduler, and hands finished latents on. A job that
arrives joins at the next step of its size; one that is cancelled is gone by then. The idea is that of iteration-level
scheduling for language models (Yu et al., "Orca", OSDI 2022), in the easier case that all steps cost the same.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import torch

from models.diffusion.batching import SizeGroup, SizeGroups
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.faults import attempt, isolate
from models.diffusion.job import Progress, RenderJob, Size
from models.diffusion.open_jobs import OpenJobs
from models.diffusion.sample import Sample, predict
from models.diffusion.stats import EngineCounters

logger = logging.getLogger(__name__)

_GUIDANCE_BRANCHES = 32
"""Negative prompts whose conditions are kept, the latest ones. Each takes as much memory as those of one job."""


@dataclass(frozen=True, slots=True)
class Latents:
    """Clean latents on their way to becoming a picture.

    Attributes:
        job: whose they are.
        latents: float32 ``[1, channels, h, w]``; nobody writes to them any more.
        preview_index: set if they are an early view.
        since: ``time.perf_counter()`` when they were ready.
    """

    job: RenderJob
    latents: torch.Tensor = field(repr=False)
    preview_index: int | None
    since: float


class DiffusionEngine:
    """Denoises. It has no threads of its own: whoever calls :meth:`step` owns it.

    Only :meth:`validate` and :meth:`limit` may be called from other threads.

    Args:
        decoder: what draws.
        states_shape: that of dream states, ``(queries, hidden_size)``.
        empty_prompt: dream states of the empty prompt, for guidance; without them guided jobs bring negative states.
        open_jobs: which jobs are wanted; learns of progress and failures.
        hand_over: takes latents that are ready to be decoded, and must not block.
        counters: learns of steps.
        max_batch: jobs of one UNet call. With guidance a job takes two of its rows.
    """

    def __init__(
        self,
        decoder: DiffusionDecoder,
        states_shape: tuple[int, int],
        empty_prompt: torch.Tensor | None,
        open_jobs: OpenJobs,
        hand_over: Callable[[Latents], None],
        counters: EngineCounters,
        max_batch: int,
    ) -> None:
        self._decoder = decoder
        self._open_jobs = open_jobs
        self._hand_over = hand_over
        self._counters = counters
        self._groups = SizeGroups(max_batch)
        self._states_shape = states_shape
        self._empty_prompt = empty_prompt
        # A tensor's hash is its identity, and the cache holds it: none can take the place of another.
        self._guidance_branch = lru_cache(maxsize=_GUIDANCE_BRANCHES)(decoder.condition)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._groups.empty

    def validate(self, job: RenderJob) -> None:
        """Check what can be checked before a job is taken.

        Raises:
            ValueError: this engine cannot draw the job.
        """
        self._decoder.description.check(job, self._states_shape)
        if job.guided and job.negative_states is None and self._empty_prompt is None:
            raise ValueError("a job with guidance must bring negative states")

    def limit(self, size: Size) -> int:
        """Jobs of one UNet call at this size: fewer than ``max_batch`` where those did not fit in memory."""
        return self._groups.limit(size)

    def add(self, job: RenderJob) -> None:
        """Put an open job in line; it is admitted by one of the next steps."""
        self._groups.add(job)
        self._count_jobs()

    @torch.inference_mode()
    def step(self) -> None:
        """Admit, denoise, finish: one step of the jobs whose size has its turn."""
        self._groups.release(self._open_jobs.__contains__)
        group = self._groups.next_turn()
        if group is not None:
            self._admit(group)
            if batch := group.batch():
                self._finish(group, self._denoise(group, batch))
        self._count_jobs()

    def _admit(self, group: SizeGroup) -> None:
        """Fill the group's free places."""
        while job := group.admissible():
            queue_s = self._open_jobs.age(job.id)
            sample = attempt(partial(self._begin, job))
            if isinstance(sample, Exception):
                self._open_jobs.fail(job.id, sample)
                continue
            self._counters.admitted(queue_s)
            group.running.append(sample)

    def _begin(self, job: RenderJob) -> Sample:
        negative_states = self._empty_prompt if job.negative_states is None else job.negative_states
        guidance = self._guidance_branch(negative_states) if job.guided else None
        return Sample(job, self._decoder, guidance)

    def _denoise(self, group: SizeGroup, batch: list[Sample]) -> list[tuple[Sample, torch.Tensor | None]]:
        """Move a batch by one step. A sample that fails leaves, and the others do not notice.

        Returns:
            The samples that moved, with the predicted clean latents where a preview is due.
        """
        started = time.perf_counter()
        moved = []
        for sample, output in zip(batch, isolate(partial(self._predict, group), batch), strict=True):
            original = output if isinstance(output, Exception) else attempt(partial(sample.advance, output))
            if isinstance(original, Exception):
                group.running.remove(sample)
                self._open_jobs.fail(sample.job.id, original)
            else:
                moved.append((sample, original))
        # Kernels are queued ahead of the device. Waiting for them keeps "within one step" true and the times honest,
        # and lets another stream read the latents.
        self._decoder.synchronize()
        area = self._decoder.description.relative_area(*group.size)
        self._counters.stepped(len(batch), time.perf_counter() - started, area)
        return moved

    def _finish(self, group: SizeGroup, moved: list[tuple[Sample, torch.Tensor | None]]) -> None:
        """Tell of the step, and hand on previews and finished latents."""
        now = time.perf_counter()
        for sample, original in moved:
            self._open_jobs.tell(sample.job.id, Progress(sample.step, sample.job.steps))
            if original is not None:
                self._hand_over(Latents(sample.job, original, sample.previews_given - 1, now))
            if sample.finished:
                group.running.remove(sample)
                self._hand_over(Latents(sample.job, sample.latents, None, now))

    def _predict(self, group: SizeGroup, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
        """The UNet's output for each sample. Batches of their size shrink when this one does not fit in memory."""
        try:
            return predict(self._decoder, samples)
        except torch.OutOfMemoryError:
            if len(samples) > 1:
                limit = len(samples) // 2
                logger.warning("out of memory: batches of %dx%d pictures shrink to %d", *group.size, limit)
                self._groups.lower_limit(group, limit)
            raise

    def _count_jobs(self) -> None:
        self._counters.occupied(self._groups.waiting, self._groups.running)
