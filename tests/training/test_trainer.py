"""The training loop: exact after a kill, the same on several processes, its curves on disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import LlamaConfig, LlamaModel

from models.training.curves import EVENTS, PICTURE, read_log
from models.training.optimisation import Optimisation, make_optimizers
from models.training.trainer import CHECKPOINTS, OtherRunError, Trainer

SETTINGS: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "accumulation": 2,
    "learning_rate": 0.05,
    "warmup": 2,
    "schedule": "trapezoid",
    "weight_decay": 0.1,
    "ema": 0.9,
    "log_every": 1,
    "save_every": 3,
}


class KilledError(Exception):
    """Stands for the end of the process."""


class Numbers:
    """A micro-batch whose content follows from its number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))

    def to(self, device: torch.device) -> "Numbers":
        return self


def numbers(first: int, stride: int) -> Iterator[Numbers]:
    while True:
        yield Numbers(first)
        first += stride


class Fit(nn.Module):
    """Fits a small network to noise; notes which micro-batches it saw."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.kill_at = kill_at
        self.seen: list[int] = []

    def forward(self, batch: Numbers) -> dict[str, torch.Tensor]:
        if batch.number == self.kill_at:
            raise KilledError
        self.seen.append(batch.number)
        loss = (self.network(batch.inputs) - torch.randn(4, 1)).square().mean()
        losses = {"loss": loss}
        return losses | {"even": loss} if batch.number % 2 == 0 else losses


def trainer(
    folder: Path, objective: nn.Module | None = None, seed: int = 1, data: str = "noise", **changes: Any
) -> Trainer:
    settings = Optimisation(**{**SETTINGS, **changes})
    return Trainer("fit", objective or Fit(), numbers, settings, folder, seed, {"data": data})


def weights(objective: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in objective.parameters()])


@pytest.fixture
def in_one_go(tmp_path: Path) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Log and weights of a run that nobody disturbed."""
    objective = Fit()
    trainer(tmp_path / "quiet", objective).run()
    assert objective.seen == list(range(12))
    return read_log(tmp_path / "quiet"), weights(objective)


@pytest.mark.parametrize("kill_at", [6, 7, 11])
def test_a_killed_run_goes_on_bit_for_bit(
    tmp_path: Path, in_one_go: tuple[list[dict[str, Any]], torch.Tensor], kill_at: int
) -> None:
    with pytest.raises(KilledError):
        trainer(tmp_path / "killed", Fit(kill_at)).run()
    objective = Fit()
    trainer(tmp_path / "killed", objective).run()
    assert objective.seen == list(range(6, 12))
    assert read_log(tmp_path / "killed") == in_one_go[0]
    assert torch.equal(weights(objective), in_one_go[1])


def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path: Path, in_one_go: tuple[list[dict[str, Any]], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state = Accelerator.save_state

    def killed_after_saving_some(self: Accelerator, folder: str) -> None:
        save_state(self, folder)
        if folder.endswith("-6"):
            Path(folder, "model.safetensors").write_bytes(b"half a file")
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", killed_after_saving_some)
        with pytest.raises(KilledError):
            trainer(tmp_path / "killed").run()
    objective = Fit()
    trainer(tmp_path / "killed", objective).run()
    assert objective.seen == list(range(6, 12))
    assert torch.equal(weights(objective), in_one_go[1])
    assert [folder.name for folder in (tmp_path / "killed" / CHECKPOINTS).iterdir()] == ["step-6"]


def test_a_finished_run_ends_with_its_average_and_is_not_run_again(
    tmp_path: Path, in_one_go: tuple[list[dict[str, Any]], torch.Tensor]
) -> None:
    again = Fit(kill_at=0)
    trainer(tmp_path / "quiet", again).run()
    assert again.seen == []
    assert torch.equal(weights(again), in_one_go[1])
    last = Fit()
    trainer(tmp_path / "last", last, ema=0.0).run()
    assert not torch.equal(weights(last), in_one_go[1])


@pytest.mark.parametrize("changes", [{"seed": 2}, {"data": "other"}, {"learning_rate": 0.1}, {"accumulation": 1}])
def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    trainer(tmp_path).run()
    with pytest.raises(OtherRunError, match="another seed or other settings"):
        trainer(tmp_path, **changes).run()


def test_a_run_can_be_made_longer_only_before_its_rate_falls(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trainer(tmp_path, Fit(kill_at=7)).run()
    longer = trainer(tmp_path, steps=12)
    longer.restore()
    assert longer.step == 3
    trainer(tmp_path).run()
    with pytest.raises(OtherRunError):
        trainer(tmp_path, steps=12).restore()


def test_rates_rise_then_stay_or_follow_a_cosine_to_zero() -> None:
    trapezoid = Optimisation(steps=100, batch_size=1, learning_rate=1.0, warmup=10, schedule="trapezoid", save_every=10)
    rates = [trapezoid.fraction(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:70] == [1.0] * 60
    assert rates[70:] == sorted(rates[70:], reverse=True)
    cosine = trapezoid.model_copy(update={"schedule": "cosine"})
    assert cosine.fraction(9) == 1.0
    assert cosine.fraction(55) == pytest.approx(0.5)
    assert rates[100] == cosine.fraction(100) == 0.0


def test_curves_are_written_as_lines_events_and_a_picture(tmp_path: Path) -> None:
    trainer(tmp_path, log_every=2, save_every=2).run()
    points = read_log(tmp_path)
    assert [point["step"] for point in points] == [2, 4, 6]
    assert set(points[0]) == {"step", "loss", "even", "learning_rate"}
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
    (events,) = (tmp_path / EVENTS).iterdir()
    assert b"learning_rate" in events.read_bytes()


def test_embeddings_and_vectors_do_not_decay() -> None:
    objective = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    (adamw,) = make_optimizers(objective, Optimisation(**SETTINGS))
    decay = {id(p): group["weight_decay"] for group in adamw.optimizer.param_groups for p in group["params"]}
    assert {n: decay[id(p)] for n, p in objective.named_parameters()} == {"0.weight": 0, "1.weight": 0.1, "1.bias": 0}


def test_muon_has_the_matrices_of_the_language_models_layers_and_adamw_the_rest() -> None:
    config = LlamaConfig(vocab_size=7, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    text = LlamaModel(config)
    text.layers[1].requires_grad_(False)
    objective = nn.ModuleDict({"text": text, "projector": nn.Linear(3, 8)})
    adamw, muon = make_optimizers(objective, Optimisation(**SETTINGS, muon=0.02))
    names = {id(p): name for name, p in objective.named_parameters()}

    def has(optimizer: torch.optim.Optimizer) -> set[str]:
        return {names[id(p)] for group in optimizer.param_groups for p in group["params"]}

    assert all(name.startswith("text.layers.0.") for name in has(muon.optimizer))
    assert len(has(muon.optimizer)) == 7  # query, key, value, output; gate, up, down
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert has(adamw.optimizer) == trained - has(muon.optimizer)
    assert (muon.peak, adamw.peak) == (0.02, SETTINGS["learning_rate"])


def test_two_processes_do_what_one_does_with_twice_the_accumulation(
    tmp_path: Path, in_one_go: tuple[list[dict[str, Any]], torch.Tensor]
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*command, str(tmp_path / "two")], check=True, env=environment, timeout=120)
    for mine, point in zip(in_one_go[0], read_log(tmp_path / "two"), strict=True):
        assert point == pytest.approx(mine, rel=1e-4)


if __name__ == "__main__":
    trainer(Path(sys.argv[1]), accumulation=1).run()
