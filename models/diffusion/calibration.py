"""Measuring how fast a decoder denoises on the device that it is on."""

import logging
import statistics
import time

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import RenderJob
from models.diffusion.sample import Sample, predict
from models.diffusion.step_times import StepTimes

logger = logging.getLogger(__name__)

_GUIDANCE_SCALE = 2.0


@torch.inference_mode()
def measure(decoder: DiffusionDecoder, states_shape: tuple[int, int], max_batch: int, *, repeats: int = 3) -> StepTimes:
    """Take steps of batches of 1, 2, 4 … up to ``max_batch`` jobs of the default size, all with guidance.

    The batch sizes end before the first that does not fit in memory. Nothing else may use the decoder meanwhile.

    Args:
        decoder: what draws.
        states_shape: that of dream states, ``(queries, hidden_size)``.
        max_batch: jobs of the biggest batch.
        repeats: steps of each batch, of which the median counts; one before them, which pays for what is done but
            once, does not.

    Raises:
        torch.OutOfMemoryError: not even one job fits.
    """
    measured: list[tuple[int, float]] = []
    for batch in _batch_sizes(max_batch):
        try:
            measured.append((batch, _step_s(decoder, states_shape, batch, repeats)))
        except torch.OutOfMemoryError:
            if not measured:
                raise
            logger.warning("out of memory: batches of %d are too big", batch)
            break
    torch.cuda.empty_cache()
    return StepTimes(tuple(measured))


def _batch_sizes(max_batch: int) -> list[int]:
    """Powers of two, and the limit itself."""
    return sorted({1 << power for power in range(max_batch.bit_length())} | {max_batch})


def _step_s(decoder: DiffusionDecoder, states_shape: tuple[int, int], batch: int, repeats: int) -> float:
    states = torch.zeros(states_shape)
    guidance = decoder.condition(states)
    samples = [Sample(_job(decoder, states, repeats + 1), decoder, guidance) for _ in range(batch)]
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        for sample, output in zip(samples, predict(decoder, samples), strict=True):
            sample.advance(output)
        decoder.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _job(decoder: DiffusionDecoder, states: torch.Tensor, steps: int) -> RenderJob:
    return RenderJob(
        id="calibration",
        states=states,
        negative_states=None,
        width=decoder.image_size,
        height=decoder.image_size,
        steps=steps,
        guidance_scale=_GUIDANCE_SCALE,
        scheduler=decoder.sampling.scheduler,
        seed=0,
    )
