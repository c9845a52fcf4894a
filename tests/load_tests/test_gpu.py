"""The GPU benchmark at tiny size on a CPU: it works, and says that it measured no GPU."""

from pathlib import Path

import pytest
import torch

from load_tests.gpu import measure as measuring
from load_tests.gpu.__main__ import NOTHING_MEASURED, main
from load_tests.gpu.measure import measure, peak_named, picture_flops, picture_side
from load_tests.gpu.model import SD21, TINY, Spec, random_decoder
from load_tests.gpu.options import OPTIONS, Option
from load_tests.profiles.roofline import unet_call
from load_tests.results import Results
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder

CPU = torch.device("cpu")


def broken(spec: Spec, device: torch.device) -> DiffusionDecoder:
    raise NotImplementedError("no kernel | for\nthis device")


def test_without_a_gpu_it_says_so_and_meets_no_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu", "--quick", "--spec", "tiny", "--json", str(tmp_path / "gpu.json")])
    main()

    results = Results.read(tmp_path / "gpu.json")
    assert results.unavailable == NOTHING_MEASURED
    assert not results.goals
    assert [table.title for table in results.tables] == [
        "One picture of tiny, 4 steps with guidance",
        "Pictures a second",
    ]
    assert NOTHING_MEASURED in capsys.readouterr().out


async def test_an_option_that_fails_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "OPTIONS", (OPTIONS[0], Option("broken", broken, needs_cuda=False), OPTIONS[1]))
    results = Results("gpu")
    seconds = await measure(results, TINY, CPU, pictures=1, batches_each=1)

    eager, failed, other = results.tables[0].rows
    assert failed[:3] == ("broken", "FAILED: NotImplementedError: no kernel / for this device", "")
    assert eager[1] == seconds.served
    assert isinstance(other[1], float)
    assert "option failed: broken" in capsys.readouterr().err


async def test_nothing_is_measured_where_eager_mode_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "OPTIONS", (Option("eager", broken, needs_cuda=False), *OPTIONS[1:]))
    with pytest.raises(NotImplementedError, match="no kernel"):
        await measure(Results("gpu"), TINY, CPU, pictures=1, batches_each=1)


async def test_the_best_option_may_fail_at_a_larger_batch() -> None:
    makers = iter((random_decoder, broken))
    results = Results("gpu")
    fragile = Option("fragile", lambda spec, device: next(makers)(spec, device))
    options = {option.name: option for option in (OPTIONS[0], fragile)}
    await measuring.by_batch(results, options, TINY, CPU, batches_each=1, flops=1.0, peak=None)

    [table], [plot] = results.tables, results.plots
    assert [row[:2] for row in table.rows] == [("eager", 1), ("eager", 2), ("fragile", 1), ("fragile", 2)]
    assert str(table.rows[-1][2]).startswith("FAILED: ")
    assert [series.x for series in plot.series] == [(1.0, 2.0), (1.0,)]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 836),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
    ],
)
def test_every_gpu_has_the_peak_of_its_own_data_sheet(name: str, tflops: float) -> None:
    assert peak_named(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GH200 480GB", "NVIDIA H20", "Tesla T4"])
def test_a_gpu_that_is_not_known_has_no_peak(name: str) -> None:
    assert peak_named(name) is None


@torch.inference_mode()
@pytest.mark.parametrize("option", [option for option in OPTIONS if not option.needs_cuda], ids=lambda o: o.name)
def test_an_option_draws_what_eager_mode_draws(option: object) -> None:
    states = torch.randn(2, *TINY.states_shape)
    latents = torch.randn(2, 4, 8, 8)
    predictions = []
    for make in (OPTIONS[0].make, option.make):  # type: ignore[attr-defined]
        decoder = make(TINY, CPU)
        condition = Conditioning(decoder.projector(states), {})
        predictions.append(decoder.predict(latents, torch.tensor([10, 500]), condition))

    torch.testing.assert_close(*predictions, rtol=1e-4, atol=1e-4)


def test_the_size_is_that_of_stable_diffusion() -> None:
    call = unet_call(SD21)
    assert picture_side(SD21) == 512
    assert 860e6 < call.weight_bytes / 2 < 870e6
    # Some 0.34 tera multiply-adds a row, as profilers have it that count a multiply-add as one.
    assert 0.6e12 < call.flops < 0.9e12


def test_a_picture_costs_its_unet_calls_and_its_decoding() -> None:
    flops = picture_flops(TINY)
    assert flops > 2 * TINY.steps * unet_call(TINY).flops


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (random_decoder(TINY, CPU).unet.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
