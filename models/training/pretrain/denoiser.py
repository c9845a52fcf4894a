"""The denoiser, in place of Stable Diffusion's UNet: from nothing, on latents of pictures and wishes for them."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.training.precision import autocast
from models.training.pretrain.autoencoder import LATENT_CHANNELS, LATENT_SIDE, pretrained_autoencoder, to_tensor
from models.training.pretrain.loop import PartTraining, Schedule, load_average
from models.training.pretrain.wish_encoder import CROSS_ATTENTION_DIM, WishEncoder
from models.training.world import Scene, Wish, WishedShape, draw, sample_scene

SCHEDULE = Schedule(steps=7300, learning_rate=1e-3, warmup=300, ema=0.998)
BATCH = 48
UNCONDITIONAL = 0.1  # share of examples trained on the unconditional tokens, for classifier-free guidance
COMPLETE = 0.6  # share of wishes that leave nothing open
EMPTY = 0.05  # share of wishes that leave everything open
TOKEN_NOISE = 0.2  # deviation of what is added to the tokens, whose own is 1: no language model gives them exactly
POOL = 12_288  # pictures encoded at a time
STEPS_PER_POOL = 1000

# The fused attention of CPUs has a slow backward pass: plain matrix products took half the time of a whole step.
ATTENTION = {"cuda": SDPBackend.EFFICIENT_ATTENTION}

# A cosine schedule and v-prediction: flat colours are decided at high noise, where SD's linear schedule teaches little.
SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "timestep_spacing": "trailing",
}


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet for 16x16 latents: Stable Diffusion's in small, without attention at full resolution."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        attention_head_dim=(2, 4, 4),  # diffusers means the number of heads
        cross_attention_dim=CROSS_ATTENTION_DIM,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def loosen(scene: Scene, rng: random.Random) -> Wish:
    """A wish that the scene fulfils, with more or less left open.

    The order of the shapes is random, so that it tells the denoiser nothing.
    """
    if rng.random() < EMPTY:
        return Wish()
    openness = 0.0 if rng.random() < COMPLETE else rng.random()

    def keep(value: str) -> str | None:
        return None if rng.random() < openness else value

    shapes = [WishedShape(keep(s.kind), keep(s.color), keep(s.size), keep(s.place)) for s in scene.shapes]
    rng.shuffle(shapes)
    return Wish(keep(scene.background), tuple(shapes))


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures encoded ahead.

    Attributes:
        scenes: what they show.
        latents: scaled, ``[scenes, channels, height, width]``.
    """

    scenes: list[Scene]
    latents: torch.Tensor


class PoolSource:
    """Draws and encodes pictures; keeps the last pool, as a picture is used several times, each time with other noise.

    Args:
        vae: the finished autoencoder.
        seed: decides the pictures.
        size: pictures of a pool.
    """

    def __init__(self, vae: AutoencoderKL, seed: int, size: int) -> None:
        self.vae = vae
        self.seed = seed
        self.size = size
        self.index: int | None = None
        self.pool: Pool | None = None

    def at(self, step: int) -> Pool:
        """The pool that a step draws from."""
        index = step // STEPS_PER_POOL
        if self.pool is None or index != self.index:
            self.index, self.pool = index, self.fill(random.Random(f"{self.seed}/pool/{index}"))
        return self.pool

    @torch.no_grad()
    def fill(self, rng: random.Random) -> Pool:
        """Compute a pool."""
        scenes = [sample_scene(rng) for _ in range(self.size)]
        latents = []
        for start in range(0, self.size, 64):
            pictures = to_tensor([draw(scene, rng) for scene in scenes[start : start + 64]])
            pictures = pictures.to(self.vae.device, memory_format=torch.channels_last)
            with autocast(self.vae.device):
                latents.append(self.vae.encode(pictures).latent_dist.mean.float())
        return Pool(scenes, torch.cat(latents) * self.vae.config.scaling_factor)


def train_denoiser(
    folder: Path, seed: int, device: torch.device, schedule: Schedule = SCHEDULE, pool_size: int = POOL
) -> None:
    """Train the UNet: mean squared error of the velocity, timesteps uniform and evenly spread over each batch.

    Args:
        folder: has the finished autoencoder, and takes the state.
        seed: decides everything random.
        device: where to train.
        schedule: how long.
        pool_size: pictures encoded at a time.
    """
    torch.manual_seed(seed)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    wish_encoder = WishEncoder().to(device)
    unconditional = wish_encoder.unconditional()
    noiser = DDPMScheduler.from_config(SCHEDULER_CONFIG)
    source = PoolSource(pretrained_autoencoder(folder).to(device, memory_format=torch.channels_last), seed, pool_size)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        pool = source.at(step)
        chosen = rng.choices(range(len(pool.scenes)), k=BATCH)
        latents = pool.latents[chosen]
        tokens = wish_encoder([loosen(pool.scenes[i], rng) for i in chosen])
        dropped = torch.rand(BATCH, 1, 1, device=device) < UNCONDITIONAL
        tokens = torch.where(dropped, unconditional, tokens)
        tokens = tokens + TOKEN_NOISE * torch.randn_like(tokens)
        noise = torch.randn_like(latents)
        # A low-discrepancy sampler (Kingma et al. 2021, appendix I.1): the loss of a batch varies less.
        times = (rng.random() + torch.arange(BATCH, device=device) / BATCH) % 1
        timesteps = (times * noiser.config.num_train_timesteps).long()
        noisy = noiser.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with autocast(device), sdpa_kernel(ATTENTION.get(device.type, SDPBackend.MATH)):
            velocity = unet(noisy, timesteps, encoder_hidden_states=tokens).sample.float()
        return F.mse_loss(velocity, noiser.get_velocity(latents, noise, timesteps))

    PartTraining("denoiser", unet, schedule, folder, seed).run(loss)


def pretrained_denoiser(folder: Path) -> UNet2DConditionModel:
    """The UNet as far as it is trained, frozen, on the CPU.

    Raises:
        OSError: the folder has no denoiser.
    """
    unet = build_unet()
    load_average(folder, "denoiser", unet)
    return unet
