"""A picture to render, and what is told about it on the way: immutable values that cross threads and processes."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

ImageFormat = Literal["png", "webp", "jpeg"]
SchedulerName = Literal["ddpm", "ddim", "dpmpp_2m"]
Priority = Literal["normal", "high"]
Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One picture to render: the unit that a pool batches, retries and cancels.

    Attributes:
        id: unique; a job done twice is seen once.
        states: dream states ``[num_dream_queries, hidden_size]``.
        negative_states: the guidance branch, same shape; None stands for the empty prompt's, which the pool holds.
            Jobs with the same negative prompt should share the tensor: its conditions are then computed once.
        width: in pixels.
        height: in pixels.
        steps: denoising steps.
        guidance_scale: 1 or less draws without guidance.
        scheduler: the sampler.
        seed: all noise of the picture comes from it.
        previews: early views to send, evenly spread over the steps.
        format: encoding of the picture and its previews.
        priority: ``"high"`` goes before all that is ``"normal"`` and not yet begun: the second and later pictures of a
            document, which holds its place in the language model while it waits.
        timeout_s: from when it is handed to a pool; nobody wants the picture after that. None is no limit.
    """

    id: str
    states: torch.Tensor = field(repr=False)
    negative_states: torch.Tensor | None = field(repr=False)
    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: SchedulerName
    seed: int
    previews: int = 0
    format: ImageFormat = "png"
    priority: Priority = "normal"
    timeout_s: float | None = None

    @property
    def size(self) -> Size:
        """What must be equal for jobs to share a UNet call."""
        return self.width, self.height

    @property
    def guided(self) -> bool:
        """Whether it is drawn with guidance, and so takes two rows of the UNet's batch."""
        return self.guidance_scale > 1


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """A finished picture.

    Attributes:
        data: the encoded bytes.
        format: their encoding.
        pixels: uint8 ``[height, width, 3]``, read-only, as drawn, before any lossy encoding: what the model is shown.
    """

    data: bytes = field(repr=False)
    format: ImageFormat
    pixels: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """``step`` of ``steps`` are done."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """An early view; ``index`` counts from 0. It may be smaller than the picture."""

    index: int
    image: RenderedImage


@dataclass(frozen=True, slots=True)
class Completed:
    """The picture. The last update of a job."""

    image: RenderedImage


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no picture. The last update of a job.

    Attributes:
        code: short and stable, for programs: ``"render_failed"``, ``"cancelled"``, ``"unavailable"`` …
        message: for people; tells nothing of the inside.
    """

    code: str
    message: str


JobUpdate = Progress | Preview | Completed | Failed
Outcome = Completed | Failed
