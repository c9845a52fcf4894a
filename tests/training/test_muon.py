"""Muon is torch's, in float32 where the device does not compute in bfloat16."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from models.training import muon, precision, trainer
from models.training.muon import Muon, orthogonalized
from models.training.optimisation import Optimisation
from models.training.trainer import make_accelerator

SETTINGS = {"lr": 0.1, "weight_decay": 0.2}


def trained(optimizer_class: Callable[..., torch.optim.Muon], module: nn.Module) -> list[torch.Tensor]:
    module = copy.deepcopy(module)
    optimizer = optimizer_class(module.parameters(), **SETTINGS)
    for step in range(4):
        for index, parameter in enumerate(module.parameters()):
            noise = torch.Generator().manual_seed(10 * step + index)
            parameter.grad = torch.randn(parameter.shape, generator=noise)
        optimizer.step()
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("bfloat16", [True, False])
def test_it_does_what_torchs_does(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "computes_in_bfloat16", lambda device: bfloat16)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(24, 40, bias=False), nn.Linear(40, 16, bias=False))
    starts = list(module.parameters())
    theirs = partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
    for ours, expected, start in zip(trained(Muon, module), trained(theirs, module), starts, strict=True):
        apart = (ours - expected).norm() / (expected - start).norm()
        assert apart < 1e-5 if bfloat16 else 1e-4 < apart < 0.03


def test_a_parameter_without_gradient_stays() -> None:
    module = nn.Linear(4, 4, bias=False)
    before = module.weight.clone()
    Muon(module.parameters(), **SETTINGS).step()
    assert torch.equal(module.weight, before)


def test_updates_are_nearly_orthogonal() -> None:
    matrix = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    for one in (matrix, matrix.T):
        result = orthogonalized(one, (3.4445, -4.775, 2.0315), 5, 1e-7)
        assert result.shape == one.shape
        assert result.dtype == (torch.bfloat16 if muon.computes_in_bfloat16(one.device) else torch.float32)
        values = torch.linalg.svdvals(result.float())
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_mixed_precision_is_off_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.ones(2, 2)
    for computes in (True, False):
        monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device, answer=computes: answer)
        with precision.autocast(torch.device("cpu")):
            assert (a @ a).dtype == (torch.bfloat16 if computes else torch.float32)


def test_a_stage_says_so_when_it_trains_in_float32_instead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Optimisation(steps=1, batch_size=1, learning_rate=1e-3, mixed_precision="bf16")
    monkeypatch.setattr(trainer, "computes_in_bfloat16", lambda device: False)
    assert make_accelerator(settings).mixed_precision == "no"
    assert "doesn't compute in bfloat16" in caplog.text
    monkeypatch.setattr(trainer, "computes_in_bfloat16", lambda device: True)
    assert make_accelerator(settings).mixed_precision == "bf16"


def test_a_gpu_computes_in_bfloat16() -> None:
    assert precision.computes_in_bfloat16(torch.device("cuda"))
