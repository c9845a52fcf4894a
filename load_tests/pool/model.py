"""Diffusion models with random weights, whose UNet calls are written down."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from load_tests.pool.unet_calls import UNetCalls
from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import DecoderDescription, SamplingDefaults
from server.pool.wire import JobLimits

SCHEDULER_CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
CROSS_ATTENTION_DIM = 128


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a random model looks like; the same spec gives the same weights in every process.

    Attributes:
        unet_channels: of its two levels. The default makes four million parameters.
        vae_channels: of its three levels, so that a latent covers 4x4 pixels.
        latent_side: of the pictures.
        states_shape: of dream states, ``(queries, hidden_size)``.
    """

    unet_channels: tuple[int, int] = (64, 128)
    vae_channels: tuple[int, int, int] = (16, 16, 16)
    latent_side: int = 16
    states_shape: tuple[int, int] = (64, 256)

    def limits(self, description: DecoderDescription) -> JobLimits:
        """What its jobs may ask for."""
        return JobLimits(self.states_shape, description.size_multiple, description.image_size**2, max_steps=250)

    def states(self) -> torch.Tensor:
        """Dream states, each time other ones."""
        return torch.randn(self.states_shape)


SMALL = ModelSpec(unet_channels=(8, 16), vae_channels=(8, 8, 8), latent_side=4, states_shape=(8, 16))
"""So small that the time of a call hardly depends on its rows."""


class WatchedDecoder(DiffusionDecoder):
    """A decoder that writes down when each UNet call begins."""

    def __init__(self, calls: UNetCalls, *modules: Any) -> None:
        super().__init__(*modules)
        self._calls = calls

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        self._calls.write(rows=len(latents))
        return super().predict(latents, timesteps, condition)


def random_decoder(spec: ModelSpec, device: torch.device, calls: UNetCalls) -> WatchedDecoder:
    """A model on a device, in the dtype that DreamServe computes in there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = (
            ConditionProjector(spec.states_shape[1], CROSS_ATTENTION_DIM),
            _random_unet(spec),
            _random_vae(spec),
        )
    for module in modules:
        module.to(device).eval().requires_grad_(False)
        if device.type != "cpu":
            module.half()
    return WatchedDecoder(calls, *modules, SCHEDULER_CONFIG, SamplingDefaults())


def _random_unet(spec: ModelSpec) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=spec.latent_side,
        block_out_channels=spec.unet_channels,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=CROSS_ATTENTION_DIM,
        attention_head_dim=4,
        norm_num_groups=min(32, spec.unet_channels[0]),
    )


def _random_vae(spec: ModelSpec) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=spec.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
    )
