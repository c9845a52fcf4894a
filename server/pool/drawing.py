"""What draws in a process, loaded and measured."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from models.diffusion.calibration import measure
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import DecoderDescription
from models.diffusion.fingerprint import checkpoint_id
from models.diffusion.step_times import StepTimes
from server.pool.wire import JobLimits
from server.settings import DiffusionSettings, LimitsSettings, Settings

QUICK_REPEATS = 2
THOROUGH_REPEATS = 8
CALIBRATED_UP_TO = 64


@dataclass(frozen=True, slots=True)
class Drawing:
    """What draws, ready to.

    Attributes:
        decoder: on its device.
        limits: of its jobs.
        step_times: as measured just now.
        max_batch: jobs of one UNet call.
        checkpoint_id: of the weights.
    """

    decoder: DiffusionDecoder
    limits: JobLimits
    step_times: StepTimes
    max_batch: int
    checkpoint_id: str


def load_drawing(settings: Settings, *, calibrate: bool) -> Drawing:
    """Load the diffusion side of the checkpoint and warm it up. Blocks.

    Args:
        settings: of the process.
        calibrate: choose the batch limit by measuring, instead of taking it from the settings.

    Raises:
        OSError: the checkpoint is incomplete.
        ValueError: a file of it is broken.
    """
    folder = settings.model.path / "diffusion"
    device, dtype = device_and_dtype(settings.diffusion)
    decoder = DiffusionDecoder.from_pretrained(folder, device, dtype)
    limits = job_limits(settings.model.path, decoder.description, settings.limits)
    if calibrate:
        times = measure(decoder, limits.states_shape, CALIBRATED_UP_TO, repeats=THOROUGH_REPEATS)
        max_batch = times.best_batch()
    else:
        max_batch = settings.diffusion.max_batch
        times = measure(decoder, limits.states_shape, max_batch, repeats=QUICK_REPEATS)
    return Drawing(decoder, limits, times, max_batch, checkpoint_id(folder))


def job_limits(checkpoint: Path, description: DecoderDescription, limits: LimitsSettings) -> JobLimits:
    """What jobs may ask for: the checkpoint's own numbers, and the settings.

    Raises:
        OSError: the checkpoint has no ``config.json``.
        ValueError: it does not say how many dream queries there are.
    """
    file = checkpoint / "config.json"
    queries = json.loads(file.read_text()).get("num_dream_queries")
    if not isinstance(queries, int) or queries < 1:
        raise ValueError(f"{file}: num_dream_queries must be a positive integer")
    return JobLimits(
        states_shape=(queries, description.hidden_size),
        size_multiple=description.size_multiple,
        max_pixels=limits.image_pixels,
        max_steps=limits.steps,
    )


def device_and_dtype(settings: DiffusionSettings) -> tuple[torch.device, torch.dtype | None]:
    """Where the diffusion engine computes, and in what; None leaves the dtype to the decoder."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: torch.dtype | None = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return torch.device(name), dtype
