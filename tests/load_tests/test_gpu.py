"""The GPU benchmark at tiny size on a CPU: it works, and says that it measured no GPU."""

from pathlib import Path

import pytest
import torch

from load_tests.gpu.__main__ import NOTHING_MEASURED, main
from load_tests.gpu.measure import picture_flops, picture_side
from load_tests.gpu.model import SD21, TINY, random_decoder
from load_tests.gpu.options import OPTIONS
from load_tests.profiles.roofline import unet_call
from load_tests.results import Results
from models.diffusion.conditioning import Conditioning

CPU = torch.device("cpu")


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
