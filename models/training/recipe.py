"""The whole recipe: from nothing to a checkpoint folder that DreamServe serves."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.training.autoencoder import SCHEDULE as AUTOENCODER_SCHEDULE
from models.training.autoencoder import train_autoencoder
from models.training.denoiser import RESERVOIR, SCHEDULER_CONFIG, train_denoiser
from models.training.denoiser import SCHEDULE as DENOISER_SCHEDULE
from models.training.language import SCHEDULE as LANGUAGE_SCHEDULE
from models.training.language import train_language
from models.training.loop import Schedule

SAMPLING = SamplingDefaults(scheduler="dpmpp_2m", steps=20, guidance_scale=2.0)
TEMPERATURE = 0.7  # recommended to whoever samples text: the sentences are few, and a slip shows
DIFFUSION_FOLDER = "diffusion"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Schedules of the three stages, and how many examples the last one computes ahead."""

    autoencoder: Schedule = AUTOENCODER_SCHEDULE
    language: Schedule = LANGUAGE_SCHEDULE
    denoiser: Schedule = DENOISER_SCHEDULE
    reservoir: int = RESERVOIR

    def scaled(self, share: float) -> "Recipe":
        """The same recipe with so much of the steps of each stage, for trying it out."""

        def scale(schedule: Schedule) -> Schedule:
            steps = max(2, round(schedule.steps * share))
            return replace(schedule, steps=steps, warmup=min(schedule.warmup, steps // 2 or 1))

        reservoir = max(32, round(self.reservoir * min(1.0, 10 * share)))
        return Recipe(scale(self.autoencoder), scale(self.language), scale(self.denoiser), reservoir)


def train(out: Path, work: Path, seed: int, device: torch.device, recipe: Recipe) -> None:
    """Run the stages and write the checkpoint.

    Args:
        out: checkpoint folder to write.
        work: folder of the stages' states; a run goes on from what it finds there.
        seed: decides everything random.
        device: where to train.
        recipe: how long.
    """
    work.mkdir(parents=True, exist_ok=True)
    vae = train_autoencoder(work, seed, device, recipe.autoencoder)
    model, processor = train_language(work, seed, device, recipe.language)
    unet, projector = train_denoiser(work, seed, device, model, processor, vae, recipe.denoiser, recipe.reservoir)
    decoder = DiffusionDecoder(projector, unet, vae, SCHEDULER_CONFIG, SAMPLING)
    save_checkpoint(out, model, processor, decoder)


def save_checkpoint(
    out: Path, model: DreamLLMForConditionalGeneration, processor: DreamLLMProcessor, decoder: DiffusionDecoder
) -> None:
    """Write all sides of a checkpoint, weights in float16."""
    model.generation_config.update(do_sample=True, temperature=TEMPERATURE)
    model.to("cpu", torch.float16).save_pretrained(out)
    processor.save_pretrained(out)
    for module in (decoder.projector, decoder.unet, decoder.vae):
        module.to("cpu", torch.float16)
    decoder.save_pretrained(out / DIFFUSION_FOLDER)
