"""Models with random weights, in sizes by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from load_tests.pool.model import SCHEDULER_CONFIG
from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults


@dataclass(frozen=True, slots=True)
class Spec:
    """A size.

    Attributes:
        name: of it.
        states_shape: of dream states, ``(queries, hidden_size)``.
        unet: arguments of diffusers' UNet.
        vae: of its autoencoder.
        steps: of a picture.
        batches: of which pictures a second are measured.
    """

    name: str
    states_shape: tuple[int, int]
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    steps: int
    batches: tuple[int, ...]


SD21 = Spec(
    name="sd21",
    states_shape=(64, 4096),
    # https://huggingface.co/stabilityai/stable-diffusion-2-1-base: unet/config.json and vae/config.json
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    vae={
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 32,
    },
    steps=50,
    batches=(1, 2, 4, 8, 16, 32),
)
"""Of the published DreamLLM: 866 M parameters in the UNet, pictures of 512 pixels."""

TINY = Spec(
    name="tiny",
    states_shape=(8, 16),
    unet={
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 4),
        "norm_num_groups": 8,
        "use_linear_projection": True,
    },
    vae={
        "sample_size": 16,
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    },
    steps=4,
    batches=(1, 2),
)
"""To see that the benchmark works, on any machine."""

SPECS = {spec.name: spec for spec in (SD21, TINY)}


def random_modules(spec: Spec, device: torch.device) -> tuple[ConditionProjector, UNet2DConditionModel, AutoencoderKL]:
    """Projector, UNet and VAE with weights that a seed gives, made on the device: float16 there, float32 on a CPU."""
    torch.manual_seed(0)
    with device:
        modules = (
            ConditionProjector(spec.states_shape[1], spec.unet["cross_attention_dim"]),
            UNet2DConditionModel(**spec.unet),
            AutoencoderKL(**spec.vae),
        )
    for module in modules:
        module.eval().requires_grad_(False)
        if device.type != "cpu":
            module.half()
    return modules


def random_decoder(
    spec: Spec, device: torch.device, decoder: type[DiffusionDecoder] = DiffusionDecoder
) -> DiffusionDecoder:
    """A decoder of such modules."""
    return decoder(*random_modules(spec, device), SCHEDULER_CONFIG, SamplingDefaults())
