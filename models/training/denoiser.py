"""Stage three: UNet and condition projector, from scratch, on latents and the dream states that ask for them.

The language model and the autoencoder are finished and stay as they are, so both sides of an example are computed once
and reused for some hundred steps.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.diffusion.condition_projector import ConditionProjector
from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.training.autoencoder import LATENT_CHANNELS, to_tensor
from models.training.documents import MIXTURE, Kind, caption, direct, drawing, sample_document, several, story, surprise
from models.training.language import rough_length
from models.training.loop import Schedule, Stage
from models.training.sequence import Encoder, collate

CROSS_ATTENTION_DIM = 128
SCHEDULE = Schedule(steps=4000, learning_rate=7e-4, warmup=200, ema=0.998)
BATCH = 32
UNCONDITIONAL = 0.1  # share of examples trained on the empty prompt's states, for classifier-free guidance
RESERVOIR = 6144  # examples computed at a time
STEPS_PER_RESERVOIR = 800
DRAWING_MIXTURE: dict[Kind, float] = {
    kind: MIXTURE[kind] for kind in (drawing, direct, caption, several, story, surprise)
}

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
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=CROSS_ATTENTION_DIM,
        norm_num_groups=16,
        use_linear_projection=True,
    )


class DenoiserTraining(nn.Module):
    """What this stage trains."""

    def __init__(self, unet: UNet2DConditionModel, projector: ConditionProjector) -> None:
        super().__init__()
        self.unet = unet
        self.projector = projector


@dataclass(frozen=True, slots=True)
class Reservoir:
    """Examples computed ahead.

    Attributes:
        latents: scaled, ``[examples, channels, height, width]``.
        states: dream states, ``[examples, queries, hidden]``.
    """

    latents: torch.Tensor
    states: torch.Tensor


class ReservoirSource:
    """Computes reservoirs with the finished language model and autoencoder; keeps the last one."""

    def __init__(
        self,
        model: DreamLLMForConditionalGeneration,
        processor: DreamLLMProcessor,
        vae: AutoencoderKL,
        seed: int,
        size: int,
    ) -> None:
        self.model = model.eval()
        self.vae = vae.eval()
        self.processor = processor
        self.encoder = Encoder(model.config, processor)
        self.seed = seed
        self.size = size
        self.index: int | None = None
        self.reservoir: Reservoir | None = None

    def at(self, step: int) -> Reservoir:
        """The reservoir that a step draws from."""
        index = step // STEPS_PER_RESERVOIR
        if self.reservoir is None or index != self.index:
            self.index, self.reservoir = index, self.fill(random.Random(f"{self.seed}/reservoir/{index}"))
        return self.reservoir

    @torch.no_grad()
    def fill(self, rng: random.Random) -> Reservoir:
        """Compute a reservoir."""
        # A document of this mixture asks for about one and a half pictures.
        documents = sorted((sample_document(rng, DRAWING_MIXTURE) for _ in range(self.size * 2 // 3)), key=rough_length)
        latents, states = [], []
        for start in range(0, len(documents), 64):
            examples = [self.encoder.encode(document, rng) for document in documents[start : start + 64]]
            batch = collate(examples, self.processor, self.vae.device)
            pictures = to_tensor([dream.picture for dream in batch.dreams]).to(self.vae.device)
            with torch.autocast(self.vae.device.type, torch.bfloat16):
                hidden = self.model.model(
                    input_ids=batch.input_ids, pixel_values=batch.pixel_values, attention_mask=batch.attention_mask
                ).last_hidden_state
                latent = self.vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist.mean
            states.append(batch.dream_states(hidden, self.model.config.num_dream_queries).to(torch.bfloat16))
            latents.append(latent.float() * self.vae.config.scaling_factor)
        return Reservoir(torch.cat(latents), torch.cat(states))

    def empty_states(self) -> torch.Tensor:
        """Dream states of the empty prompt: BOS alone, as the official code's default negative prompt."""
        bos = torch.tensor([self.processor.tokenizer.bos_token_id], device=self.vae.device)
        states: torch.Tensor = self.model.dream_states(bos).clone()
        return states


def train_denoiser(
    folder: Path,
    seed: int,
    device: torch.device,
    model: DreamLLMForConditionalGeneration,
    processor: DreamLLMProcessor,
    vae: AutoencoderKL,
    schedule: Schedule = SCHEDULE,
    reservoir_size: int = RESERVOIR,
) -> tuple[UNet2DConditionModel, ConditionProjector]:
    """Train the denoiser: mean squared error of the velocity, every example at a uniform timestep."""
    torch.manual_seed(seed)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    projector = ConditionProjector(model.config.text_config.hidden_size, CROSS_ATTENTION_DIM).to(device)
    noiser = DDPMScheduler.from_config(SCHEDULER_CONFIG)
    source = ReservoirSource(model, processor, vae, seed, reservoir_size)
    empty = source.empty_states()

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        reservoir = source.at(step)
        chosen = torch.randint(len(reservoir.latents), (BATCH,), device=device)
        latents, states = reservoir.latents[chosen], reservoir.states[chosen].float()
        dropped = torch.rand(BATCH, device=device) < UNCONDITIONAL
        states = torch.where(dropped[:, None, None], empty, states)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(noiser.config.num_train_timesteps, (BATCH,), device=device)
        noisy = noiser.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(ATTENTION.get(device.type, SDPBackend.MATH)):
            velocity = unet(noisy, timesteps, encoder_hidden_states=projector(states)).sample.float()
        return F.mse_loss(velocity, noiser.get_velocity(latents, noise, timesteps))

    Stage("denoiser", DenoiserTraining(unet, projector), schedule, folder, seed).run(loss)
    return unet, projector
