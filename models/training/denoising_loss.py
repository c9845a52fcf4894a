"""The loss on pictures: how well the UNet tells noise from picture, given the dream states.

As in the official code (``StableDiffusionHead.forward`` of RunpeiDong/DreamLLM), with its three variants: weights by
signal-to-noise ratio, offset noise with perturbed input, and dropped conditions for classifier-free guidance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from models.diffusion.condition_projector import ConditionProjector


class DenoisingSettings(BaseModel):
    """Variants of the loss; by default none, as in the official configurations.

    Attributes:
        snr_gamma: caps the weight of easy timesteps (Hang et al. 2023, "Min-SNR", section 3.4); they suggest 5.
        noise_offset: how much of the noise is one number for a whole channel, so that brightness is learned too.
        input_perturbation: how much more noise the input has than the target; 0.1 is usual.
        drop_prob: share of pictures that are denoised on the unconditional states (Ho and Salimans 2022); 0.1 is usual.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr_gamma: float | None = Field(None, gt=0)
    noise_offset: float = Field(0.0, ge=0)
    input_perturbation: float = Field(0.0, ge=0)
    drop_prob: float = Field(0.0, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Draws:
    """All that is random in the loss of one batch.

    Attributes:
        posterior: noise of the VAE's posterior, ``[pictures, channels, h, w]``.
        noise: what the UNet is to find, shaped alike.
        perturbation: what the input has beyond it, shaped alike; None without.
        timesteps: ``[pictures]``.
        dropped: whether a picture loses its condition, bool ``[pictures]``.
    """

    posterior: torch.Tensor
    noise: torch.Tensor
    perturbation: torch.Tensor | None
    timesteps: torch.Tensor
    dropped: torch.Tensor

    @classmethod
    def sample(cls, like: torch.Tensor, timesteps: int, settings: DenoisingSettings) -> Self:
        """Draw from torch's generator, in the order of the official code.

        Args:
            like: latents ``[pictures, channels, h, w]``.
            timesteps: of the noise schedule.
            settings: the variants.
        """
        posterior, noise = torch.randn_like(like), torch.randn_like(like)
        if settings.noise_offset:
            noise = noise + settings.noise_offset * torch.randn_like(like[..., :1, :1])
        perturbation = settings.input_perturbation * torch.randn_like(like) if settings.input_perturbation else None
        chosen = torch.randint(timesteps, (len(like),), device=like.device)
        dropped = torch.rand(len(like), device=like.device) < settings.drop_prob
        return cls(posterior, noise, perturbation, chosen, dropped)


class DenoisingLoss(nn.Module):
    """Condition projector, UNet and VAE as they are trained.

    Args:
        projector: dream states to conditions.
        unet: the denoiser.
        vae: pixels to latents.
        scheduler_config: of the noise; its ``prediction_type`` says what the UNet predicts.
        settings: the variants.
    """

    def __init__(
        self,
        projector: ConditionProjector,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler_config: Mapping[str, Any],
        settings: DenoisingSettings,
    ) -> None:
        super().__init__()
        self.projector = projector
        self.unet = unet
        self.vae = vae
        self.settings = settings
        self.scheduler = DDPMScheduler.from_config(dict(scheduler_config))

    def forward(
        self,
        pictures: torch.Tensor,
        states: torch.Tensor,
        unconditional: torch.Tensor | None = None,
        draws: Draws | None = None,
    ) -> torch.Tensor:
        """The mean squared error of the UNet's prediction.

        Args:
            pictures: ``[pictures, 3, height, width]`` in -1…1.
            states: dream states that asked for them, ``[pictures, queries, hidden]``.
            unconditional: states that ask for nothing, ``[queries, hidden]``; needed where conditions are dropped.
            draws: what would be random.

        Raises:
            ValueError: conditions are to be dropped, and there are no unconditional states.
        """
        with torch.set_grad_enabled(self.vae_is_trained):
            posterior = self.vae.encode(pictures).latent_dist
        draws = draws or Draws.sample(posterior.mean, self.scheduler.config.num_train_timesteps, self.settings)
        latents = (posterior.mean + posterior.std * draws.posterior) * self.vae.config.scaling_factor
        disturbed = draws.noise if draws.perturbation is None else draws.noise + draws.perturbation
        noisy = self.scheduler.add_noise(latents, disturbed, draws.timesteps)
        if draws.dropped.any():
            if unconditional is None:
                raise ValueError("conditions are dropped, and there are no unconditional states in their place")
            states = torch.where(draws.dropped[:, None, None], unconditional, states)
        predicted = self.unet(noisy, draws.timesteps, encoder_hidden_states=self.projector(states)).sample.float()
        target = self.target(latents, draws.noise, draws.timesteps).float()
        errors: torch.Tensor = (predicted - target).square().mean(dim=(1, 2, 3))
        if self.settings.snr_gamma is not None:
            errors = errors * self.snr_weights(draws.timesteps, self.settings.snr_gamma)
        return errors.mean()

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the UNet is to predict; shapes as ``latents``.

        Raises:
            ValueError: the scheduler's ``prediction_type`` is neither "epsilon" nor "v_prediction".
        """
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                velocity: torch.Tensor = self.scheduler.get_velocity(latents, noise, timesteps)
                return velocity
            case other:
                raise ValueError(f"UNets that predict {other!r} cannot be trained")

    def snr_weights(self, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
        """Min-SNR weights ``[pictures]``: min(SNR, gamma) / SNR, with SNR + 1 for SNR where velocity is predicted."""
        signal: torch.Tensor = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        ratio = signal / (1 - signal)
        if self.scheduler.config.prediction_type == "v_prediction":
            ratio = ratio + 1
        return ratio.clamp(max=gamma) / ratio

    @property
    def vae_is_trained(self) -> bool:
        """Whether gradients must reach the VAE. They never do in DreamLLM's stages."""
        trained: bool = next(self.vae.parameters()).requires_grad
        return trained
