"""The whole recipe of the tiny model: from nothing to a checkpoint folder that DreamServe serves."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from diffusers import DDPMScheduler

from models.training.assembly import DreamLLM
from models.training.config import Stage, StageConfig, packaged_config
from models.training.optimisation import Optimisation
from models.training.pictures import image_processor
from models.training.pretrain.autoencoder import DECODER_SCHEDULE as DECODER
from models.training.pretrain.autoencoder import SCHEDULE as AUTOENCODER
from models.training.pretrain.autoencoder import pretrained_autoencoder, train_autoencoder, train_decoder
from models.training.pretrain.denoiser import POOL, SCHEDULER_CONFIG, pretrained_denoiser, train_denoiser
from models.training.pretrain.denoiser import SCHEDULE as DENOISER
from models.training.pretrain.loop import Schedule
from models.training.pretrain.text import OPTIMISATION as TEXT
from models.training.pretrain.text import train_text
from models.training.pretrain.vision import SCHEDULE as VISION
from models.training.pretrain.vision import pretrained_vision, train_vision
from models.training.stages import run_stage
from models.training.world import RESOLUTION

TEMPERATURE = 0.7  # recommended to whoever samples text: the sentences are few, and a slip shows


@dataclass(frozen=True, slots=True)
class Pretraining:
    """How the four stand-ins for Vicuna, CLIP and Stable Diffusion are trained."""

    text: Optimisation = TEXT
    autoencoder: Schedule = AUTOENCODER
    decoder: Schedule = DECODER
    vision: Schedule = VISION
    denoiser: Schedule = DENOISER
    pool: int = POOL


@dataclass(frozen=True, slots=True)
class Recipe:
    """Pre-training, and the three stages in their order."""

    pretraining: Pretraining
    stages: tuple[StageConfig, ...]

    @classmethod
    def tiny(cls) -> Self:
        """What the embedded checkpoint is made by."""
        return cls(Pretraining(), tuple(packaged_config("tiny", stage) for stage in Stage))

    @classmethod
    def smoke(cls) -> Self:
        """The same in so few steps that nothing is learned but the losses of the stages fall."""

        def short(schedule: Schedule) -> Schedule:
            return replace(schedule, steps=2, warmup=1)

        few = {"steps": 12, "batch_size": 8, "warmup": 1, "log_every": 1, "save_every": 12}
        stages = [
            config.model_copy(update={"optimisation": config.optimisation.model_copy(update=few)})
            for config in cls.tiny().stages
        ]
        pretraining = Pretraining(
            TEXT.model_copy(update=few), short(AUTOENCODER), short(DECODER), short(VISION), short(DENOISER), pool=64
        )
        return cls(pretraining, tuple(stages))


def train(out: Path, work: Path, seed: int, device: torch.device, recipe: Recipe) -> None:
    """Run all of a recipe and write the checkpoint.

    Args:
        out: checkpoint folder to write.
        work: folder of the run, which goes on from what it finds there.
        seed: decides everything random.
        device: where to pre-train; the stages follow accelerate's configuration.
        recipe: what to do.
    """
    pretrain(work, seed, device, recipe.pretraining)
    for config in recipe.stages:
        finished = run_stage(config.model_copy(update={"seed": seed}), work)
    publish(finished, out)


def pretrain(work: Path, seed: int, device: torch.device, pretraining: Pretraining) -> None:
    """Train the stand-ins, and write each in the layout of what it stands for: where the alignment begins."""
    work.mkdir(parents=True, exist_ok=True)
    train_text(work, seed, pretraining.text)
    train_autoencoder(work, seed, device, pretraining.autoencoder)
    train_decoder(work, seed, device, pretraining.decoder)
    train_vision(work, seed, device, pretraining.vision)
    train_denoiser(work, seed, device, pretraining.denoiser, pretraining.pool)
    export(work)


def export(work: Path) -> None:
    """Write vision tower, UNet and autoencoder as transformers and diffusers save them, as far as they are trained."""
    pretrained_vision(work).save_pretrained(work / "vision")
    image_processor(RESOLUTION).save_pretrained(work / "vision")
    pretrained_denoiser(work).save_pretrained(work / "diffusion" / "unet")
    pretrained_autoencoder(work).save_pretrained(work / "diffusion" / "vae")
    DDPMScheduler.from_config(SCHEDULER_CONFIG).save_pretrained(work / "diffusion" / "scheduler")


def publish(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint as it is shipped: in float16, with a temperature to sample text by."""
    dream = DreamLLM.from_pretrained(checkpoint)
    dream.model.generation_config.update(do_sample=True, temperature=TEMPERATURE)
    # Where the parts were loaded from are folders of this machine.
    for part in (dream.model.config.text_config, dream.model.config.vision_config):
        part._name_or_path = ""
    for module in dream.decoder.modules.values():
        module.register_to_config(_name_or_path="")
    dream.save_pretrained(out, torch.float16)
