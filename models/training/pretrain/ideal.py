"""How well the denoiser draws under ideal conditions: the wish encoder's tokens, no language model.

Pictures are drawn by the code that serves, and judged by the pixel classifier: what is lost here, no language model can
win back. ``python -m models.training.pretrain.ideal FOLDER`` prints it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import typer
from diffusers import UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.diffusion.job import RenderJob
from models.diffusion.sample import Sample, predict
from models.training.judge import judge
from models.training.pretrain.autoencoder import pretrained_autoencoder
from models.training.pretrain.denoiser import SCHEDULER_CONFIG, pretrained_denoiser
from models.training.pretrain.wish_encoder import WishEncoder
from models.training.world import COUNTS, RESOLUTION, Scene, Wish, sample_scene

SAMPLING = SamplingDefaults(scheduler="dpmpp_2m", steps=20, guidance_scale=2.0)


class IdealArtist:
    """Draws wishes by their ideal tokens.

    Args:
        folder: of the finished autoencoder and denoiser.
        sampling: how to draw.
    """

    def __init__(self, folder: Path, sampling: SamplingDefaults = SAMPLING) -> None:
        unet, vae = pretrained_denoiser(folder), pretrained_autoencoder(folder)
        self.wish_encoder = WishEncoder()
        self.decoder = DiffusionDecoder(identity(unet), unet, vae, SCHEDULER_CONFIG, sampling)

    @torch.inference_mode()
    def draw(self, wishes: Sequence[Wish], seed: int = 0) -> np.ndarray:
        """A picture of each wish, uint8 ``[wishes, 64, 64, 3]``; the seeds of their noise count up from ``seed``."""
        guidance = self.decoder.condition(self.wish_encoder.unconditional())
        tokens = self.wish_encoder(wishes)
        samples = [Sample(self.job(t, seed + i), self.decoder, guidance) for i, t in enumerate(tokens)]
        for _ in range(self.decoder.sampling.steps):
            for sample, output in zip(samples, predict(self.decoder, samples), strict=True):
                sample.advance(output)
        return self.decoder.decode(torch.cat([sample.latents for sample in samples])).numpy()

    def job(self, tokens: torch.Tensor, seed: int) -> RenderJob:
        """The job for one picture."""
        sampling = self.decoder.sampling
        return RenderJob(
            id=str(seed),
            states=tokens,
            negative_states=None,
            width=RESOLUTION,
            height=RESOLUTION,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            scheduler=sampling.scheduler,
            seed=seed,
        )


def identity(unet: UNet2DConditionModel) -> ConditionProjector:
    """A projector that changes nothing: ideal tokens are what the UNet reads."""
    dim = unet.config.cross_attention_dim
    projector: ConditionProjector = ConditionProjector(dim, dim)
    projector.load_state_dict({"linear.weight": torch.eye(dim)})
    projector.requires_grad_(False)
    return projector


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of pictures, 0…1, that show all shapes asked for, and no other.

    Attributes:
        shapes: in kind and colour.
        places: in place too.
        all: in size too, on the right background.
    """

    shapes: float
    places: float
    all: float


def agreement(artist: IdealArtist, scenes: Sequence[Scene], batch: int = 50) -> Agreement:
    """Draw the complete wish for each scene and judge the pictures."""
    rows = []
    for start in range(0, len(scenes), batch):
        asked = scenes[start : start + batch]
        pictures = artist.draw([Wish.of(scene) for scene in asked], seed=start)
        rows += [compare(scene, judge(picture)) for scene, picture in zip(asked, pictures, strict=True)]
    return Agreement(*np.mean(rows, axis=0).tolist())


def compare(asked: Scene, seen: Scene) -> tuple[bool, bool, bool]:
    """Whether all shapes agree in kind and colour; in place too; and in size and background too."""
    kinds = {(s.kind, s.color) for s in asked.shapes} == {(s.kind, s.color) for s in seen.shapes}
    places = {(s.kind, s.color, s.place) for s in asked.shapes} == {(s.kind, s.color, s.place) for s in seen.shapes}
    return kinds, places, set(asked.shapes) == set(seen.shapes) and asked.background == seen.background


def report(folder: Path, pictures: int = 100, guidance_scale: float = SAMPLING.guidance_scale) -> None:
    """Print the agreement for scenes of one, two and three shapes and for held-out ones, so many of each."""
    artist = IdealArtist(folder, replace(SAMPLING, guidance_scale=guidance_scale))
    rng = random.Random(0)
    sets = {f"{count} shapes": [sample_scene(rng, count) for _ in range(pictures)] for count in COUNTS}
    sets["held out"] = [sample_scene(rng, held_out=True) for _ in range(pictures)]
    for name, scenes in sets.items():
        score = agreement(artist, scenes)
        print(f"{name:10}  shapes {score.shapes:6.1%}  places {score.places:6.1%}  all {score.all:6.1%}")


if __name__ == "__main__":
    typer.run(report)
