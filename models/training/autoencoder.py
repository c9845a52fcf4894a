"""Stage one: the autoencoder that turns pictures into latents, from scratch, on pictures of the world."""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from models.training.loop import Schedule, Stage
from models.training.world import PLACES, RESOLUTION, draw, sample_scene

LATENT_CHANNELS = 4
KL_WEIGHT = 1e-5
SCHEDULE = Schedule(steps=3000, learning_rate=2e-3, ema=0.995)
CROP = 32  # pixels
CROPPED = 0.8  # share of the steps that see crops only; the rest, whole pictures, settle the normalisation layers


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: 64x64 pixels to 16x16 latents of four channels. The full-resolution blocks are thin."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """uint8 ``[H, W, 3]`` pictures to float ``[batch, 3, H, W]`` in -1…1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def crop(rng: random.Random) -> np.ndarray:
    """A ``[32, 32, 3]`` piece of a picture, near one of its shapes."""
    scene = sample_scene(rng)
    corner = [round(c) - CROP // 2 + rng.randint(-8, 8) for c in PLACES[rng.choice(scene.shapes).place]]
    left, top = (min(max(c, 0), RESOLUTION - CROP) for c in corner)
    return draw(scene, rng)[top : top + CROP, left : left + CROP]


def train_autoencoder(folder: Path, seed: int, device: torch.device, schedule: Schedule = SCHEDULE) -> AutoencoderKL:
    """Train the autoencoder and set its scaling factor to one over the standard deviation of its latents.

    The loss is L1 plus MSE on pixels and a slight KL term, as the flat pictures need no perceptual or adversarial one.
    """
    torch.manual_seed(seed)
    vae = build_autoencoder().to(device, memory_format=torch.channels_last)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        cropped = step < CROPPED * schedule.steps
        pictures = to_tensor(
            [crop(rng) if cropped else draw(sample_scene(rng), rng) for _ in range(32 if cropped else 16)]
        )
        pictures = pictures.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        pixels = F.l1_loss(decoded, pictures) + F.mse_loss(decoded, pictures)
        value: torch.Tensor = pixels + KL_WEIGHT * posterior.kl().float().mean()
        return value

    Stage("autoencoder", vae, schedule, folder, seed).run(loss)
    vae.register_to_config(scaling_factor=1.0 / float(latent_deviation(vae, seed)))
    return vae


@torch.inference_mode()
def latent_deviation(vae: AutoencoderKL, seed: int, pictures: int = 256) -> torch.Tensor:
    """Standard deviation of the latents over pictures of the world."""
    rng = random.Random(seed)
    batch = to_tensor([draw(sample_scene(rng), rng) for _ in range(pictures)])
    deviation: torch.Tensor = vae.encode(batch.to(vae.device)).latent_dist.mean.std()
    return deviation
