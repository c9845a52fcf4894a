"""One job while it is denoised."""

from collections.abc import Sequence

import torch

from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import RenderJob
from models.diffusion.schedulers import make_scheduler, predict_original


class Sample:
    """The state of a job between two steps; it belongs to the engine's thread.

    All noise comes from a CPU generator of the job's own, drawn one sample at a time, and the latents are float32
    whatever the UNet computes in: so a seed gives the same picture on every device and in any batch.

    Args:
        job: what to draw.
        decoder: what draws it.
        guidance: conditions of the guidance branch, one row; None for a job that is not guided.

    Raises:
        ValueError: size, scheduler or steps do not fit the decoder.

    Attributes:
        condition: one row, or two with guidance: the guidance branch first, as the official code has it.
        latents: float32 ``[1, channels, h, w]``.
        step: steps done.
        previews_given: previews that :meth:`advance` has returned.
    """

    def __init__(self, job: RenderJob, decoder: DiffusionDecoder, guidance: Conditioning | None) -> None:
        self.job = job
        self.step = 0
        self.previews_given = 0
        condition = decoder.condition(job.states)
        self.condition = condition if guidance is None else Conditioning.cat([guidance, condition])
        self._scheduler = make_scheduler(job.scheduler, decoder.scheduler_config, job.steps)
        self._generator = torch.Generator("cpu").manual_seed(job.seed)
        noise = torch.randn((1, *decoder.latent_shape(job.width, job.height)), generator=self._generator)
        self.latents = (noise * self._scheduler.init_noise_sigma).to(decoder.device)
        self._preview_steps = preview_steps(job.steps, job.previews)

    @property
    def rows(self) -> int:
        """Rows of the UNet's batch that this sample takes: one, or two with guidance."""
        return self.condition.rows

    @property
    def timestep(self) -> torch.Tensor:
        """Scalar, on the CPU."""
        timestep: torch.Tensor = self._scheduler.timesteps[self.step]
        return timestep

    @property
    def finished(self) -> bool:
        """Whether the latents are the picture's."""
        return self.step == self.job.steps

    def model_input(self) -> torch.Tensor:
        """What the UNet sees, ``[rows, channels, h, w]``."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(self.latents, self.timestep)
        return scaled.expand(self.rows, -1, -1, -1)

    def advance(self, output: torch.Tensor) -> torch.Tensor | None:
        """Take one step.

        Args:
            output: the UNet's, float32 ``[rows, channels, h, w]``.

        Returns:
            The predicted clean latents ``[1, channels, h, w]`` when a preview is due.
        """
        prediction = self._guided(output)
        original = None
        if self.step + 1 in self._preview_steps:
            self.previews_given += 1
            original = predict_original(self._scheduler, prediction, self.timestep, self.latents)
        self.latents = self._scheduler.step(
            prediction, self.timestep, self.latents, generator=self._generator, return_dict=False
        )[0]
        self.step += 1
        return original

    def _guided(self, output: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance: u + g (c - u), Ho and Salimans 2022 in the convention of Stable Diffusion."""
        if self.rows == 1:
            return output
        unconditional, conditional = output.chunk(2)
        return unconditional + self.job.guidance_scale * (conditional - unconditional)


def predict(decoder: DiffusionDecoder, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
    """The UNet's output for each sample, float32 ``[rows, channels, h, w]``: one call for all, which have one size."""
    rows = [sample.rows for sample in samples]
    timesteps = torch.stack([sample.timestep for sample in samples])
    output = decoder.predict(
        torch.cat([sample.model_input() for sample in samples]),
        timesteps.repeat_interleave(torch.tensor(rows)),
        Conditioning.cat([sample.condition for sample in samples]),
    )
    return torch.split(output, rows)


def preview_steps(steps: int, previews: int) -> list[int]:
    """The steps, counted from 1, after which a preview is due: evenly spread, never the last one.

    Fewer than ``previews`` when there are too few steps.
    """
    spread = (round(index * steps / (previews + 1)) for index in range(1, previews + 1))
    return sorted({step for step in spread if 0 < step < steps})
