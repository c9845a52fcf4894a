"""The loop of the pre-training goes on after a kill as if there had been none."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.training.loop import OtherRunError, Schedule, Stage

SCHEDULE = Schedule(steps=12, learning_rate=0.05, warmup=2, ema=0.9, save_every=4)


class KilledError(Exception):
    """Stands for the end of the process."""


def small_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def run_stage(folder: Path, kill_at: int | None = None) -> torch.Tensor:
    """Fit a small network to noise drawn by the step; returns its weights."""
    module = small_module()

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        if step == kill_at:
            raise KilledError
        value: torch.Tensor = (module(torch.randn(8, 3)) - rng.random()).square().mean()
        return value

    folder.mkdir(exist_ok=True)
    Stage("fit", module, SCHEDULE, folder, seed=1).run(loss)
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("kill_at", [4, 7, 11])
def test_a_killed_stage_goes_on_exactly(tmp_path: Path, kill_at: int) -> None:
    quiet = run_stage(tmp_path / "quiet")
    with pytest.raises(KilledError):
        run_stage(tmp_path / "killed", kill_at)
    assert torch.equal(run_stage(tmp_path / "killed"), quiet)


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    weights = run_stage(tmp_path)
    assert torch.equal(run_stage(tmp_path, kill_at=0), weights)


@pytest.mark.parametrize(("seed", "schedule"), [(2, SCHEDULE), (1, replace(SCHEDULE, learning_rate=0.1))])
def test_the_state_of_another_run_is_refused(tmp_path: Path, seed: int, schedule: Schedule) -> None:
    run_stage(tmp_path)
    with pytest.raises(OtherRunError, match="another seed or schedule"):
        Stage("fit", small_module(), schedule, tmp_path, seed).restore()


def test_a_run_can_be_made_longer_only_before_its_rate_falls(tmp_path: Path) -> None:
    longer = replace(SCHEDULE, steps=24)
    with pytest.raises(KilledError):
        run_stage(tmp_path, kill_at=5)
    assert Stage("fit", small_module(), longer, tmp_path, seed=1).restore() == 4
    run_stage(tmp_path)
    with pytest.raises(OtherRunError):
        Stage("fit", small_module(), longer, tmp_path, seed=1).restore()


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=10, descent=0.3)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:70] == [1.0] * 60
    assert rates[100] == 0.0
    assert rates[70:] == sorted(rates[70:], reverse=True)
