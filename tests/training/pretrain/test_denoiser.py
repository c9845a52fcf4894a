"""The denoiser learns, and goes on after a kill as if there had been none; wishes never ask for something else."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.training.pretrain import denoiser
from models.training.pretrain.denoiser import loosen, pretrained_denoiser, train_denoiser
from models.training.pretrain.loop import read_metadata
from models.training.pretrain.wish_encoder import WishEncoder
from models.training.world import Wish, sample_scene
from tests.training.pretrain.short_runs import POOL, SHORT

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for the end of the process."""


class MortalEncoder(WishEncoder):
    """Dies in its fourth batch."""

    batches = 0

    def forward(self, wishes: Sequence[Wish]) -> torch.Tensor:
        self.batches += 1
        if self.batches == 4:
            raise KilledError
        return super().forward(wishes)


def test_a_wish_agrees_with_the_scene_that_it_was_taken_from() -> None:
    rng = random.Random(0)
    for scene in (sample_scene(rng) for _ in range(300)):
        assert loosen(scene, rng).agrees(scene)


def test_wishes_are_complete_partly_open_and_empty() -> None:
    rng = random.Random(1)
    scenes = [sample_scene(rng) for _ in range(300)]
    wishes = [loosen(scene, rng) for scene in scenes]
    complete = sum(
        wish.background == scene.background and set(wish.shapes or ()) == set(Wish.of(scene).shapes or ())
        for wish, scene in zip(wishes, scenes, strict=True)
    )
    assert 0.4 < complete / len(scenes) < 0.8
    assert 0 < wishes.count(Wish()) / len(scenes) < 0.15


def test_the_loss_falls(begun: Path) -> None:
    train_denoiser(begun, 0, CPU, replace(SHORT, steps=50, warmup=10, learning_rate=2e-3, save_every=50), POOL)
    last = float((begun / "denoiser.jsonl").read_text().rpartition('"loss": ')[2].strip("}\n"))
    assert last < 0.95


def test_a_killed_run_goes_on_exactly(folder: Path, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(denoiser, "WishEncoder", MortalEncoder)
        with pytest.raises(KilledError):
            train_denoiser(begun, 0, CPU, SHORT, POOL)
    assert read_metadata(begun / "denoiser.safetensors")["step"] == "2"
    train_denoiser(begun, 0, CPU, SHORT, POOL)
    quiet, resumed = pretrained_denoiser(folder).state_dict(), pretrained_denoiser(begun).state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in quiet.items())
