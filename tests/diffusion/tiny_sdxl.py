"""A Stable Diffusion XL small enough for tests, with random weights."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from tests.tiny_diffusion import CROSS_ATTENTION_DIM, HIDDEN_SIZE

POOLED_DIM = 20
TIME_DIM = 8

SCHEDULER_CONFIG = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
"""That of Stable Diffusion XL base 1.0."""


def random_sdxl_decoder(*, seed: int = 0) -> DiffusionDecoder:
    """A decoder of 32x32 pictures; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = random_sdxl_unet()
        vae = AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            sample_size=32,
            scaling_factor=0.13025,
            force_upcast=True,
        )
        projector = ConditionProjector(HIDDEN_SIZE, CROSS_ATTENTION_DIM)
        pooled_projector = ConditionProjector(HIDDEN_SIZE, POOLED_DIM, bias=True)
    for module in (unet, vae, projector, pooled_projector):
        module.eval().requires_grad_(False)
    sampling = SamplingDefaults(steps=4, guidance_scale=3.0)
    return DiffusionDecoder(projector, unet, vae, SCHEDULER_CONFIG, sampling, pooled_projector)


def random_sdxl_unet() -> UNet2DConditionModel:
    """The blocks of Stable Diffusion XL's UNet, fewer and narrower."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        layers_per_block=1,
        cross_attention_dim=CROSS_ATTENTION_DIM,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_DIM,
        projection_class_embeddings_input_dim=POOLED_DIM + 6 * TIME_DIM,
    )
