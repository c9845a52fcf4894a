"""A diffusion model small enough for tests, with random weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.diffusion.job import RenderJob

HIDDEN_SIZE = 24
QUERIES = 6
STATES_SHAPE = (QUERIES, HIDDEN_SIZE)
CROSS_ATTENTION_DIM = 16
EVERY_PREVIEW = 1e6  # a share of denoising time that leaves none out

SCHEDULER_CONFIG = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""That of Stable Diffusion 2.1-base."""


def random_decoder(*, hidden_size: int = HIDDEN_SIZE, seed: int = 0) -> DiffusionDecoder:
    """A decoder of 32x32 pictures with random weights; the same seed gives the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=CROSS_ATTENTION_DIM,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            sample_size=32,
        )
        projector = ConditionProjector(hidden_size, CROSS_ATTENTION_DIM)
    for module in (unet, vae, projector):
        module.eval().requires_grad_(False)
    return DiffusionDecoder(projector, unet, vae, SCHEDULER_CONFIG, SamplingDefaults(steps=4, guidance_scale=3.0))


def make_random_diffusion(path: Path, *, hidden_size: int, seed: int = 0) -> Path:
    """Write a random ``diffusion`` folder into the checkpoint folder ``path`` and return it."""
    folder = path / "diffusion"
    random_decoder(hidden_size=hidden_size, seed=seed).save_pretrained(folder)
    return folder


def random_states(seed: int) -> torch.Tensor:
    """Dream states ``[QUERIES, HIDDEN_SIZE]``."""
    return torch.randn(STATES_SHAPE, generator=torch.Generator().manual_seed(seed))


def make_render_job(job_id: str, **changes: Any) -> RenderJob:
    """A small job whose states follow from its id."""
    settings: dict[str, Any] = {
        "states": random_states(sum(job_id.encode())),
        "negative_states": None,
        "width": 32,
        "height": 32,
        "steps": 4,
        "guidance_scale": 3.0,
        "scheduler": "ddpm",
        "seed": 1,
    }
    return RenderJob(id=job_id, **(settings | changes))
