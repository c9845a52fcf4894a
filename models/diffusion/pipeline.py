"""From image jobs to picture files: the engine, decoding and encoding, each on a thread of its own.

Denoising never waits for a picture that is being decoded, nor decoding for one that is being encoded. Only immutable
values and latents that nobody writes to any more go from one thread to the next.
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

import numpy as np
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.encoding import encode_image
from models.diffusion.engine import DiffusionEngine, Latents
from models.diffusion.faults import attempt, isolate
from models.diffusion.job import Completed, Failed, Preview, RenderedImage, RenderJob
from models.diffusion.open_jobs import Emit, OpenJobs
from models.diffusion.previews import PREVIEW_SHARE, PreviewBudget, shrunken
from models.diffusion.stage import Stage
from models.diffusion.stats import EngineCounters, EngineStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded picture on its way to becoming a file: read-only uint8 ``[height, width, 3]``."""

    source: Latents
    pixels: np.ndarray = field(repr=False)


class RenderPipeline:
    """Renders jobs. All methods may be called from any thread.

    Args:
        decoder: what draws; the pipeline's threads use it alone.
        states_shape: that of dream states, ``(queries, hidden_size)``.
        empty_prompt: dream states of the empty prompt, for guidance; without them guided jobs bring negative states.
        emit: takes all updates; see :class:`~models.diffusion.open_jobs.OpenJobs`.
        max_batch: jobs of one UNet call.
        max_decode_batch: pictures of one VAE call.
        preview_share: see :class:`~models.diffusion.previews.PreviewBudget`; previews beyond it are left out.
    """

    def __init__(
        self,
        decoder: DiffusionDecoder,
        states_shape: tuple[int, int],
        empty_prompt: torch.Tensor | None,
        emit: Emit,
        *,
        max_batch: int = 8,
        max_decode_batch: int = 4,
        preview_share: float = PREVIEW_SHARE,
    ) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._preview_budget = PreviewBudget(preview_share)
        self._counters = EngineCounters()
        self._open_jobs = OpenJobs(emit, self._counters)
        self._arrivals: SimpleQueue[RenderJob | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._died = threading.Event()
        self._encoding: Stage[Pixels] = Stage("encode", self._encode, self._die)
        self._decoding: Stage[Latents] = Stage(
            "decode", self._decode, self._die, limit=max_decode_batch, alike=_same_preparation
        )
        self._engine = DiffusionEngine(
            decoder, states_shape, empty_prompt, self._open_jobs, self._decoding.put, self._counters, max_batch
        )
        self._denoising = threading.Thread(target=self._denoise, name="denoise", daemon=True)
        self._decode_stream = _new_stream(decoder.device)

    @property
    def alive(self) -> bool:
        """Whether all threads are at work."""
        return self._denoising.is_alive() and not self._died.is_set()

    def start(self) -> None:
        """Start the threads."""
        self._encoding.start()
        self._decoding.start()
        self._denoising.start()

    def add(self, job: RenderJob) -> None:
        """Take a job. From now on it ends with exactly one ``Completed`` or ``Failed``.

        Raises:
            ValueError: the job cannot be drawn, or its id is taken.
            EngineUnavailableError: no jobs are taken any more.
        """
        self._engine.validate(job)
        self._open_jobs.open(job)
        self._arrivals.put(job)

    def cancel(self, job_id: str) -> bool:
        """End a job as cancelled; its place is free at the next step. False if it had ended."""
        return self._open_jobs.end(job_id, Failed("cancelled", "The picture was cancelled."))

    def expire(self, job_id: str) -> bool:
        """End a job as timed out; its place is free at the next step. False if it had ended."""
        return self._open_jobs.end(job_id, Failed("timeout", "The picture took too long."))

    def room(self) -> int:
        """How many more jobs would find a place in a batch, whatever their size, and not wait for one.

        Of the sizes at work the fullest decides, counted against its own limit; without work it is ``max_batch``. The
        place of a job that takes its last step next counts as free: by the time that another job has come, it is.
        """
        if not self.alive:
            return 0
        free = (self._engine.limit(size) - jobs for size, jobs in self._open_jobs.staying().items())
        return max(0, min(free, default=self._max_batch))

    def stats(self) -> EngineStats:
        """What was measured so far."""
        return self._counters.snapshot()

    def close(self, drain_s: float) -> None:
        """Take no more jobs, give those at work so long to finish, end the rest, and stop. Blocks."""
        self._open_jobs.refuse("the diffusion engine is shutting down")
        if self.alive:
            self._open_jobs.wait_until_empty(drain_s)
        self._open_jobs.end_all(Failed("unavailable", "The service is shutting down."))
        self._stop()
        for stage in (self._decoding, self._encoding):
            stage.join()
        if self._denoising.ident is not None:
            self._denoising.join()

    def _stop(self) -> None:
        self._stopping.set()
        self._arrivals.put(None)
        self._decoding.stop()
        self._encoding.stop()

    def _die(self, error: BaseException) -> None:
        """A thread crashed: nothing can be drawn any more, and all who wait must hear it."""
        logger.critical("the diffusion engine died", exc_info=error)
        self._died.set()
        self._open_jobs.refuse("the diffusion engine died")
        self._open_jobs.end_all(Failed("unavailable", "The picture could not be drawn: the diffusion engine died."))
        self._stop()

    def _denoise(self) -> None:
        """The thread of the engine."""
        try:
            while not self._stopping.is_set():
                self._receive()
                self._engine.step()
        except BaseException as error:  # the boundary of the thread
            self._die(error)

    def _receive(self) -> None:
        """Pass on what has arrived; wait for it when there is nothing else to do."""
        while self._engine.idle or not self._arrivals.empty():
            job = self._arrivals.get()
            if job is None:
                return
            self._engine.add(job)

    def _decode(self, batch: list[Latents]) -> None:
        """Latents, either of pictures or of previews, to pixels."""
        wanted = [latents for latents in batch if latents.job.id in self._open_jobs]
        if batch[0].preview_index is None:
            self._to_encoding(wanted)
        elif wanted:
            self._decode_previews(wanted)

    def _decode_previews(self, due: list[Latents]) -> None:
        affordable = self._preview_budget.affordable(len(due), self._counters.busy_s)
        self._counters.previewed(affordable, left_out=len(due) - affordable)
        if affordable:
            started = time.perf_counter()
            self._to_encoding(due[:affordable])
            self._preview_budget.spend(affordable, time.perf_counter() - started)

    @torch.inference_mode()
    def _to_encoding(self, batch: list[Latents]) -> None:
        """Decode all in one VAE call, unless it fails, and pass them on."""
        for latents, pixels in zip(batch, isolate(self._to_pixels, batch), strict=True):
            if isinstance(pixels, Exception):
                self._fail(latents, pixels)
            else:
                self._encoding.put(Pixels(latents, pixels))

    def _to_pixels(self, batch: Sequence[Latents]) -> list[np.ndarray]:
        """One VAE call.

        Raises:
            ValueError: latents hold NaN or infinity.
        """
        with self._on_decode_stream():
            latents = torch.cat([item.latents for item in batch])
            if not latents.isfinite().all():
                raise ValueError("the latents are not finite")
            if batch[0].preview_index is not None:
                latents = shrunken(latents)
            pictures = self._decoder.decode(latents).cpu().numpy()
        return [_read_only(picture) for picture in pictures]

    def _on_decode_stream(self) -> AbstractContextManager[object]:
        """Work beside the engine's steps, not between them."""
        return nullcontext() if self._decode_stream is None else torch.cuda.stream(self._decode_stream)

    def _encode(self, batch: list[Pixels]) -> None:
        """Pixels to files, and out."""
        for item in batch:
            job = item.source.job
            if job.id not in self._open_jobs:
                continue
            data = attempt(partial(encode_image, item.pixels, job.format))
            if isinstance(data, Exception):
                self._fail(item.source, data)
                continue
            image = RenderedImage(data, job.format, item.pixels)
            if item.source.preview_index is not None:
                self._open_jobs.tell(job.id, Preview(item.source.preview_index, image))
            else:
                self._counters.finished(time.perf_counter() - item.source.since)
                self._open_jobs.end(job.id, Completed(image))

    def _fail(self, latents: Latents, error: Exception) -> None:
        """A picture that cannot be made ends its job; a preview is only left out."""
        if latents.preview_index is None:
            self._open_jobs.fail(latents.job.id, error)
        else:
            logger.warning("no preview %d of image job %s", latents.preview_index, latents.job.id, exc_info=error)


def _new_stream(device: torch.device) -> torch.cuda.Stream | None:
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _same_preparation(first: Latents, second: Latents) -> bool:
    """Whether two can be decoded in one call."""
    same_kind = (first.preview_index is None) == (second.preview_index is None)
    return same_kind and first.latents.shape == second.latents.shape


def _read_only(picture: np.ndarray) -> np.ndarray:
    """A copy of its own, so that it does not hold its batch in memory."""
    picture = picture.copy()
    picture.setflags(write=False)
    return picture
