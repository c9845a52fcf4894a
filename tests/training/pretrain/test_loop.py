"""The loop of the pre-training goes on after a kill as if there had been none."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch import nn

from models.training import cli, recipe
from models.training.pretrain.autoencoder import train_autoencoder
from models.training.pretrain.loop import PartTraining, Schedule
from models.training.trainer import OtherRunError
from tests.training.pretrain.short_runs import SHORT

SCHEDULE = Schedule(steps=12, learning_rate=0.05, warmup=2, ema=0.9, save_every=4)


class KilledError(Exception):
    """Stands for the end of the process."""


def small_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def train(folder: Path, kill_at: int | None = None) -> torch.Tensor:
    """Fit a small network to noise drawn by the step; returns its weights."""
    module = small_module()

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        if step == kill_at:
            raise KilledError
        value: torch.Tensor = (module(torch.randn(8, 3)) - rng.random()).square().mean()
        return value

    folder.mkdir(exist_ok=True)
    PartTraining("fit", module, SCHEDULE, folder, seed=1).run(loss)
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("kill_at", [4, 7, 11])
def test_a_part_that_was_killed_goes_on_exactly(tmp_path: Path, kill_at: int) -> None:
    quiet = train(tmp_path / "quiet")
    with pytest.raises(KilledError):
        train(tmp_path / "killed", kill_at)
    assert torch.equal(train(tmp_path / "killed"), quiet)


def test_a_finished_part_is_not_trained_again(tmp_path: Path) -> None:
    weights = train(tmp_path)
    assert torch.equal(train(tmp_path, kill_at=0), weights)


@pytest.mark.parametrize(("seed", "schedule"), [(2, SCHEDULE), (1, replace(SCHEDULE, learning_rate=0.1))])
def test_the_state_of_another_run_is_refused(tmp_path: Path, seed: int, schedule: Schedule) -> None:
    train(tmp_path)
    with pytest.raises(OtherRunError, match="another seed or schedule"):
        PartTraining("fit", small_module(), schedule, tmp_path, seed).restore()


def test_a_run_can_be_made_longer_only_before_its_rate_falls(tmp_path: Path) -> None:
    longer = replace(SCHEDULE, steps=24)
    with pytest.raises(KilledError):
        train(tmp_path, kill_at=5)
    assert PartTraining("fit", small_module(), longer, tmp_path, seed=1).restore() == 4
    train(tmp_path)
    with pytest.raises(OtherRunError):
        PartTraining("fit", small_module(), longer, tmp_path, seed=1).restore()


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=10, descent=0.3)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:70] == [1.0] * 60
    assert rates[100] == 0.0
    assert rates[70:] == sorted(rates[70:], reverse=True)


def test_the_command_says_that_a_part_is_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "train_text", lambda *_: None)
    train_autoencoder(tmp_path, 1, torch.device("cpu"), SHORT)
    with pytest.raises(typer.Exit):
        cli.train(stage="pretrain", work=tmp_path, seed=0, smoke=True)

    assert "another seed or schedule" in capsys.readouterr().err
