"""The whole recipe: from nothing to a checkpoint folder that DreamServe serves."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.diffusion.decoder import DiffusionDecoder, SamplingDefaults
from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.training import autoencoder, denoiser, language
from models.training.loop import Schedule

SAMPLING = SamplingDefaults(scheduler="dpmpp_2m", steps=20, guidance_scale=2.0)
DIFFUSION_FOLDER = "diffusion"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Schedules of the three stages."""

    autoencoder: Schedule = autoencoder.SCHEDULE
    language: Schedule = language.SCHEDULE
    denoiser: Schedule = denoiser.SCHEDULE

    def scaled(self, share: float) -> "Recipe":
        """The same recipe with so much of the steps of each stage, for trying it out."""

        def scale(schedule: Schedule) -> Schedule:
            steps = max(2, round(schedule.steps * share))
            return replace(schedule, steps=steps, warmup=min(schedule.warmup, steps // 2 or 1))

        return Recipe(scale(self.autoencoder), scale(self.language), scale(self.denoiser))


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
    vae = autoencoder.train_autoencoder(work, seed, device, recipe.autoencoder)
    model, processor = language.train_language(work, seed, device, recipe.language)
    unet, projector = denoiser.train_denoiser(work, seed, device, model, processor, vae, recipe.denoiser)
    decoder = DiffusionDecoder(projector, unet, vae, denoiser.SCHEDULER_CONFIG, SAMPLING)
    save_checkpoint(out, model, processor, decoder)


def save_checkpoint(
    out: Path, model: DreamLLMForConditionalGeneration, processor: DreamLLMProcessor, decoder: DiffusionDecoder
) -> None:
    """Write all sides of a checkpoint, weights in float16."""
    model.to("cpu", torch.float16).save_pretrained(out)
    processor.save_pretrained(out)
    for module in (decoder.projector, decoder.unet, decoder.vae):
        module.to("cpu", torch.float16)
    decoder.save_pretrained(out / DIFFUSION_FOLDER)
