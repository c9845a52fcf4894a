"""The samplers: diffusers schedulers by name, made afresh for every job from the checkpoint's scheduler configuration.

As in the official code, the configuration describes the noise that the UNet was trained with, and the class that it
names (``PNDMScheduler`` for Stable Diffusion 2.1) does not matter.
"""

import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from models.diffusion.job import SchedulerName

Scheduler: TypeAlias = DDPMScheduler | DDIMScheduler | DPMSolverMultistepScheduler

_CLASSES: dict[SchedulerName, type[Scheduler]] = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}

# The classes disagree on these two defaults. "leading" is that of the official DDPM; latents have no bounds to clip to.
_DEFAULTS = {"timestep_spacing": "leading", "clip_sample": False}

# What the names promise, whatever the configuration says of another solver.
_FIXED: dict[SchedulerName, dict[str, Any]] = {
    "ddpm": {},
    "ddim": {},
    "dpmpp_2m": {"algorithm_type": "dpmsolver++", "solver_order": 2},
}


def make_scheduler(name: SchedulerName, config: Mapping[str, Any], steps: int) -> Scheduler:
    """A scheduler with its timesteps set, for one job: it counts steps and remembers model outputs.

    Args:
        name: the sampler.
        config: content of a ``scheduler_config.json``; entries that the sampler does not know are ignored.
        steps: denoising steps.

    Raises:
        ValueError: the sampler is unknown, or cannot do this number of steps.
    """
    if name not in _CLASSES:
        raise ValueError(f"scheduler must be one of {', '.join(_CLASSES)}, not {name!r}")
    scheduler_class = _CLASSES[name]
    known = inspect.signature(scheduler_class.__init__).parameters
    given = {**_DEFAULTS, **config, **_FIXED[name]}
    scheduler = scheduler_class(**{key: value for key, value in given.items() if key in known})
    trained = scheduler.config.num_train_timesteps
    if not 0 < steps < trained:
        raise ValueError(f"steps must be between 1 and {trained - 1}, not {steps}")
    scheduler.set_timesteps(steps)
    _drop_surplus_timestep(scheduler, steps)
    # Near that limit, spacing and offset can lead past the last timestep that has a noise level, and to NaN.
    if len(scheduler.timesteps) != steps or scheduler.timesteps.max() >= trained:
        raise ValueError(f"{name} cannot do {steps} steps with this noise schedule")
    return scheduler


def _drop_surplus_timestep(scheduler: Scheduler, steps: int) -> None:
    """Undo a rounding error of diffusers' "trailing" spacing, which for some numbers of steps adds one at -1."""
    if len(scheduler.timesteps) != steps + 1 or scheduler.timesteps[-1] >= 0:
        return
    scheduler.timesteps = scheduler.timesteps[:steps]
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        scheduler.sigmas = torch.cat([scheduler.sigmas[:steps], scheduler.sigmas[-1:]])


def predict_original(
    scheduler: Scheduler, prediction: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor
) -> torch.Tensor:
    """The clean latents x0 that a prediction at a timestep implies; shapes as ``latents``.

    Formulas: Ho et al. 2020, eq. 15 (epsilon); Salimans and Ho 2022, appendix D (v).
    """
    signal: torch.Tensor = scheduler.alphas_cumprod[timestep].to(latents.device)
    match scheduler.config.prediction_type:
        case "epsilon":
            return (latents - (1 - signal).sqrt() * prediction) / signal.sqrt()
        case "v_prediction":
            return signal.sqrt() * latents - (1 - signal).sqrt() * prediction
        case "sample":
            return prediction
        case other:
            raise ValueError(f"unknown prediction type {other!r}")
