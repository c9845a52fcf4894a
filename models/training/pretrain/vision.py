"""The vision tower, in place of CLIP's: its patch features must tell which shapes there are.

Linear probes read it off them, and are thrown away. Every shape has one patch that tells all of it, and no patch has
two: what a language model must do is find the patch of a shape by one attribute and read the others there, which one
head of attention can. (A patch that told of all the shapes around it would have them bound to its corners, and a tiny
language model does not learn to tell these apart.)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from models.training.precision import autocast
from models.training.pretrain.autoencoder import pretrained_autoencoder, to_tensor
from models.training.pretrain.loop import PartTraining, Schedule, load_average
from models.training.world import (
    BACKGROUNDS,
    COLORS,
    KINDS,
    PLACES,
    RESOLUTION,
    SIZES,
    Scene,
    Shape,
    draw,
    holds,
    sample_scene,
)

PATCH = 16  # pixels
SIDE = RESOLUTION // PATCH  # patches
FEATURE_LAYER = -2  # as in DreamLLMConfig
SCHEDULE = Schedule(steps=3000, learning_rate=1e-3, warmup=100, ema=0.995)
BATCH = 64
DECODED = 16  # pictures of a batch that went through the autoencoder, as all that the model draws has
LATENT_NOISE = 0.2  # largest deviation of what is added to their scaled latents
PIXEL_NOISE = 0.1  # largest deviation of what is added to pixels in -1…1
BLURRED = 0.2  # share of the pictures that are blurred

PROPERTIES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "color": tuple(COLORS),
    "size": tuple(SIZES),
    "place": tuple(PLACES),
}
MOST_SHAPES = 3


def build_vision() -> CLIPVisionModel:
    """An untrained tower: CLIP's in small, four layers and sixteen patches."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=RESOLUTION,
            patch_size=PATCH,
            projection_dim=128,
        )
    )


def patch_of(shape: Shape, scene: Scene) -> int:
    """The patch that tells of a shape: above and left of its center, which is a corner of four.

    Of a shape inside another it is the one below and right, where there is no room for the center of a third.
    """
    column, row = (round(c / PATCH) for c in PLACES[shape.place])
    is_inside = any(holds("inside", shape, other) for other in scene.shapes if other is not shape)
    return row * SIDE + column if is_inside else (row - 1) * SIDE + column - 1


def targets(scene: Scene) -> np.ndarray:
    """What the probes must say, int64 ``[4 properties + background + count, 16 patches]``.

    0 is no shape, and the values of a property count from 1. Background and number of shapes are the same everywhere.
    """
    told = np.zeros((len(PROPERTIES) + 2, SIDE * SIDE), dtype=np.int64)
    for shape in scene.shapes:
        values = [1 + values.index(getattr(shape, name)) for name, values in PROPERTIES.items()]
        told[: len(PROPERTIES), patch_of(shape, scene)] = values
    told[-2] = list(BACKGROUNDS).index(scene.background)
    told[-1] = len(scene.shapes) - 1
    return told


class VisionTraining(nn.Module):
    """The tower and its probes."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = build_vision()
        classes = [*(1 + len(values) for values in PROPERTIES.values()), len(BACKGROUNDS), MOST_SHAPES]
        self.probes = nn.ModuleList(nn.Linear(self.tower.config.hidden_size, n) for n in classes)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Logits of each property, of the background and the number of shapes, each ``[pictures, 16, classes]``."""
        states = self.tower(pixel_values, output_hidden_states=True).hidden_states
        features = states[FEATURE_LAYER][:, 1:]
        return [probe(features).float() for probe in self.probes]

    def loss(self, pixel_values: torch.Tensor, scenes: Sequence[Scene]) -> torch.Tensor:
        """Mean cross-entropy over the probes."""
        truth = torch.from_numpy(np.stack([targets(scene) for scene in scenes], axis=1)).to(pixel_values.device)
        losses = [
            F.cross_entropy(logits.flatten(0, -2), wanted.flatten())
            for logits, wanted in zip(self(pixel_values), truth, strict=True)
        ]
        return torch.stack(losses).mean()


def pixel_values(images: torch.Tensor) -> torch.Tensor:
    """Pictures in -1…1 normalised as CLIP's image processor does; shapes stay."""
    mean, deviation = (
        torch.tensor(v, device=images.device)[:, None, None] for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    values: torch.Tensor = (images / 2 + 0.5 - mean) / deviation
    return values


@torch.no_grad()
def decoded(vae: AutoencoderKL, images: torch.Tensor, noise: float) -> torch.Tensor:
    """Pictures as the autoencoder gives them back, with noise of up to this deviation on their scaled latents."""
    with autocast(images.device):
        latents = vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        deviation = noise / vae.config.scaling_factor * torch.rand(len(images), 1, 1, 1, device=images.device)
        images = vae.decode(latents + deviation * torch.randn_like(latents)).sample
    return images.float().clamp(-1, 1)


def worn(images: torch.Tensor) -> torch.Tensor:
    """Pictures in -1…1, some blurred, all with some noise."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device)
    deviation = PIXEL_NOISE * torch.rand_like(chosen)
    return torch.where(chosen < BLURRED, blurred, images) + deviation * torch.randn_like(images)


def train_vision(folder: Path, seed: int, device: torch.device, schedule: Schedule = SCHEDULE) -> None:
    """Train tower and probes on true and on decoded pictures.

    Args:
        folder: has the finished autoencoder, and takes the state.
        seed: decides everything random.
        device: where to train.
        schedule: how long.
    """
    torch.manual_seed(seed)
    training = VisionTraining().to(device)
    vae = pretrained_autoencoder(folder).to(device, memory_format=torch.channels_last)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        scenes = [sample_scene(rng) for _ in range(BATCH)]
        images = to_tensor([draw(scene, rng) for scene in scenes]).to(device)
        images[:DECODED] = decoded(vae, images[:DECODED], LATENT_NOISE)
        with autocast(device):
            return training.loss(pixel_values(worn(images)), scenes)

    PartTraining("vision", training, schedule, folder, seed).run(loss)


def pretrained_vision(folder: Path) -> CLIPVisionModel:
    """The tower as far as it is trained, frozen, on the CPU.

    Raises:
        OSError: the folder has no vision tower.
    """
    return _load(folder).tower


def _load(folder: Path) -> VisionTraining:
    training = VisionTraining()
    load_average(folder, "vision", training)
    return training


@dataclass(frozen=True, slots=True)
class PatchAccuracy:
    """Shares of right answers of the probes, 0…1: about the shapes that there are, and about where there are none."""

    kind: float
    color: float
    size: float
    place: float
    background: float
    count: float
    none: float


@torch.inference_mode()
def patch_accuracy(folder: Path, scenes: Sequence[Scene], rng: random.Random, *, reconstructed: bool) -> PatchAccuracy:
    """How well the probes read pictures of these scenes, as drawn or as the autoencoder gives them back."""
    training = _load(folder)
    images = to_tensor([draw(scene, rng) for scene in scenes])
    if reconstructed:
        images = decoded(pretrained_autoencoder(folder), images, noise=0.0)
    truth = torch.from_numpy(np.stack([targets(scene) for scene in scenes], axis=1))
    right = [logits.argmax(-1) == wanted for logits, wanted in zip(training(pixel_values(images)), truth, strict=True)]
    *properties, background, count = right
    there, nothing = truth[0] > 0, truth[0] == 0

    def share(answers: torch.Tensor) -> float:
        return float(answers.float().mean())

    kind, color, size, place = (share(answers[there]) for answers in properties)
    none = share(properties[0][nothing])
    return PatchAccuracy(kind, color, size, place, share(background), share(count), none)
