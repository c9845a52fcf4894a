"""What a decoder can draw, read from the configurations of a checkpoint without its weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from models.diffusion.job import RenderJob, SchedulerName
from models.diffusion.schedulers import make_scheduler

SAMPLING_DEFAULTS = "sampling_defaults.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a checkpoint's pictures are drawn when a request does not say.

    Attributes:
        scheduler: the sampler.
        steps: denoising steps.
        guidance_scale: 1 or less draws without guidance.
    """

    scheduler: SchedulerName = "ddpm"
    steps: int = 50
    guidance_scale: float = 7.5


@dataclass(frozen=True, slots=True)
class DecoderDescription:
    """What whoever takes jobs for a decoder must know of it.

    Attributes:
        hidden_size: of the dream states that it reads.
        image_size: side in pixels of the pictures that the UNet was trained on.
        size_multiple: what the sides of a picture must be a multiple of, in pixels, for the VAE and the UNet to halve
            them.
        latent_channels: of the latents.
        pixels_per_latent: pixels along one side of a latent.
        scheduler_config: content of a diffusers ``scheduler_config.json``; the class that it names is not binding.
        sampling: defaults for requests.
    """

    hidden_size: int
    image_size: int
    size_multiple: int
    latent_channels: int
    pixels_per_latent: int
    scheduler_config: Mapping[str, Any] = field(repr=False)
    sampling: SamplingDefaults

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read from a ``diffusion`` folder, of which the weights may be missing.

        Raises:
            OSError: a configuration is missing.
            ValueError: one is broken, or the defaults cannot be drawn.
        """
        folder = Path(folder)
        scheduler_config = json.loads((folder / SCHEDULER_CONFIG).read_text())
        projector, unet, vae = (
            json.loads((folder / name / "config.json").read_text()) for name in ("condition_projector", "unet", "vae")
        )
        sampling = _read_sampling(folder / SAMPLING_DEFAULTS, scheduler_config)
        try:
            return cls.from_configs(projector, unet, vae, scheduler_config, sampling)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder}: a module's config.json cannot be understood: {error!r}") from error

    @classmethod
    def from_configs(
        cls,
        projector: Mapping[str, Any],
        unet: Mapping[str, Any],
        vae: Mapping[str, Any],
        scheduler_config: Mapping[str, Any],
        sampling: SamplingDefaults,
    ) -> Self:
        """Derive from the configurations of a decoder's modules."""
        pixels_per_latent = 1 << (len(vae["block_out_channels"]) - 1)
        return cls(
            hidden_size=projector["hidden_size"],
            image_size=unet["sample_size"] * pixels_per_latent,
            size_multiple=pixels_per_latent << (len(unet["block_out_channels"]) - 1),
            latent_channels=unet["in_channels"],
            pixels_per_latent=pixels_per_latent,
            scheduler_config=scheduler_config,
            sampling=sampling,
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Shape ``(channels, height, width)`` of the latents of a picture.

        Raises:
            ValueError: a side is not a positive multiple of what the VAE and the UNet can halve.
        """
        multiple = self.size_multiple
        if min(width, height) <= 0 or width % multiple or height % multiple:
            raise ValueError(f"width and height must be positive multiples of {multiple}, not {width}x{height}")
        return self.latent_channels, height // self.pixels_per_latent, width // self.pixels_per_latent

    def relative_area(self, width: int, height: int) -> float:
        """Area of a picture in those of the default size: about how much longer its steps take."""
        return width * height / self.image_size**2

    def check(self, job: RenderJob, states_shape: tuple[int, int]) -> None:
        """Find out whether a job can be drawn.

        Args:
            job: any.
            states_shape: ``(num_dream_queries, hidden_size)``.

        Raises:
            ValueError: it cannot: its size, scheduler, steps or dream states do not fit.
        """
        self.latent_shape(job.width, job.height)
        make_scheduler(job.scheduler, self.scheduler_config, job.steps)
        for states in (job.states, job.negative_states):
            if states is not None and states.shape != states_shape:
                raise ValueError(f"dream states must be {list(states_shape)}, not {list(states.shape)}")


def _read_sampling(path: Path, scheduler_config: Mapping[str, Any]) -> SamplingDefaults:
    try:
        sampling = SamplingDefaults(**json.loads(path.read_text()))
        make_scheduler(sampling.scheduler, scheduler_config, sampling.steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return sampling
