"""The autoencoder that turns pictures into latents, in place of Stable Diffusion's."""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from models.training.precision import autocast
from models.training.pretrain.loop import PartTraining, Schedule, load_average
from models.training.world import PLACES, RESOLUTION, draw, sample_scene

LATENT_CHANNELS = 4
NARROW_LOG_VARIANCE = -20.0
LATENT_SIDE = 16
KL_WEIGHT = 3e-6
SCHEDULE = Schedule(steps=3000, learning_rate=2e-3, ema=0.995)
CROP = 32  # pixels
CROPPED = 0.8  # share of the steps that see crops only; the rest, whole pictures, settle the normalisation layers

DECODER_SCHEDULE = Schedule(steps=1200, learning_rate=1e-3, ema=0.995, descent=0.5)
LATENT_NOISE = 0.2  # deviation of what the decoder must bear on scaled latents: no denoiser gives them exactly
EDGE_WEIGHT = 5.0  # of pixels on edges, which tell a small star from a triangle


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: 64x64 pixels to 16x16 latents of four channels. The full-resolution blocks are thin."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
    )


def to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """uint8 ``[H, W, 3]`` pictures to float ``[batch, 3, H, W]`` in -1…1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def crop(rng: random.Random) -> np.ndarray:
    """A ``[32, 32, 3]`` piece of a picture, near one of its shapes."""
    scene = sample_scene(rng, rng.choice((1, 2, 3)))  # a small shape inside another is the hardest, and rare
    corner = [round(c) - CROP // 2 + rng.randint(-8, 8) for c in PLACES[rng.choice(scene.shapes).place]]
    left, top = (min(max(c, 0), RESOLUTION - CROP) for c in corner)
    return draw(scene, rng)[top : top + CROP, left : left + CROP]


def train_autoencoder(folder: Path, seed: int, device: torch.device, schedule: Schedule = SCHEDULE) -> None:
    """Train the autoencoder.

    The loss is L1 plus MSE on pixels and a slight KL term, as the flat pictures need no perceptual or adversarial one.
    """
    torch.manual_seed(seed)
    vae = build_autoencoder().to(device, memory_format=torch.channels_last)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        cropped = step < CROPPED * schedule.steps
        pictures = to_tensor(
            [crop(rng) if cropped else draw(sample_scene(rng), rng) for _ in range(32 if cropped else 16)]
        )
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with autocast(device):
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        pixels = F.l1_loss(decoded, pictures) + F.mse_loss(decoded, pictures)
        value: torch.Tensor = pixels + KL_WEIGHT * posterior.kl().float().mean()
        return value

    PartTraining("autoencoder", vae, schedule, folder, seed).run(loss)


def train_decoder(folder: Path, seed: int, device: torch.device, schedule: Schedule = DECODER_SCHEDULE) -> None:
    """Train the decoder further on whole pictures, with the encoder as it is: what latents mean does not change.

    Args:
        folder: has the finished autoencoder, and takes the state.
        seed: decides everything random.
        device: where to train.
        schedule: how long.
    """
    torch.manual_seed(seed)
    vae = pretrained_autoencoder(folder).to(device, memory_format=torch.channels_last)
    vae.decoder.requires_grad_(True)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        pictures = to_tensor([draw(sample_scene(rng, rng.choice((1, 2, 3))), rng) for _ in range(16)])
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with autocast(device):
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mean
            noise = LATENT_NOISE / vae.config.scaling_factor * torch.randn_like(latents)
            decoded = vae.decode(latents + noise).sample.float()
        weights = torch.where(edges(pictures), EDGE_WEIGHT, 1.0)
        error = (decoded - pictures).abs()
        value: torch.Tensor = (weights * (error + error.square())).mean()
        return value

    PartTraining("decoder", vae.decoder, schedule, folder, seed).run(loss)


def edges(pictures: torch.Tensor) -> torch.Tensor:
    """Which pixels of ``[batch, 3, H, W]`` pictures in -1…1 have another colour beside them, ``[batch, 1, H, W]``."""
    highest, lowest = F.max_pool2d(pictures, 3, 1, 1), -F.max_pool2d(-pictures, 3, 1, 1)
    found: torch.Tensor = ((highest - lowest) > 0.1).any(1, keepdim=True)
    return found


def pretrained_autoencoder(folder: Path) -> AutoencoderKL:
    """The autoencoder as far as it is trained, frozen, on the CPU, with its scaling factor.

    Raises:
        OSError: the folder has no autoencoder.
    """
    vae = build_autoencoder()
    load_average(folder, "autoencoder", vae)
    if (folder / "decoder.safetensors").exists():
        load_average(folder, "decoder", vae.decoder)
    narrow_posterior(vae)
    vae.register_to_config(scaling_factor=1.0 / latent_deviation(vae))
    return vae


def narrow_posterior(vae: AutoencoderKL) -> None:
    """Let the posterior be its mean. The denoiser knows means alone, and so weak a KL term leaves the rest wide.

    Alignment draws from the posterior, as the official code does: with a deviation of 0.5 it would see mostly noise.
    """
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0
        vae.quant_conv.bias[LATENT_CHANNELS:] = NARROW_LOG_VARIANCE


@torch.inference_mode()
def latent_deviation(vae: AutoencoderKL, pictures: int = 256) -> float:
    """Standard deviation of the latents over pictures of the world."""
    rng = random.Random(0)
    batch = to_tensor([draw(sample_scene(rng), rng) for _ in range(pictures)])
    return float(vae.encode(batch).latent_dist.mean.std())
