"""The table of step times that a worker measures before it takes jobs."""

import logging

import pytest
import torch

from models.diffusion.calibration import measure
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from tests.tiny_diffusion import STATES_SHAPE


class UNetRows:
    """Records the rows of each UNet call, and has memory for so many."""

    def __init__(self, decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch, memory: int = 1000) -> None:
        self.rows: list[int] = []
        self._predict = decoder.predict
        self._memory = memory
        monkeypatch.setattr(decoder, "predict", self._recorded)

    def _recorded(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        self.rows.append(len(latents))
        if len(latents) > self._memory:
            raise torch.OutOfMemoryError("full")
        return self._predict(latents, timesteps, condition)


def batches(decoder: DiffusionDecoder, max_batch: int, repeats: int = 1) -> list[int]:
    return [batch for batch, _ in measure(decoder, STATES_SHAPE, max_batch, repeats=repeats).measured]


@pytest.mark.parametrize(("max_batch", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_batches_double_up_to_the_limit(decoder: DiffusionDecoder, max_batch: int, expected: list[int]) -> None:
    assert batches(decoder, max_batch) == expected


def test_each_batch_takes_its_steps_with_guidance_and_one_more_to_warm_up(
    decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = UNetRows(decoder, monkeypatch)
    batches(decoder, max_batch=2, repeats=3)
    assert unet.rows == [2] * 4 + [4] * 4


def test_batches_that_do_not_fit_in_memory_end_the_table(
    decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unet = UNetRows(decoder, monkeypatch, memory=6)
    with caplog.at_level(logging.WARNING):
        assert batches(decoder, max_batch=16) == [1, 2]
    assert unet.rows[-1] == 8
    assert "batches of 4 are too big" in caplog.text


def test_a_device_without_memory_for_one_job_is_not_measured(
    decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    UNetRows(decoder, monkeypatch, memory=1)
    with pytest.raises(torch.OutOfMemoryError):
        batches(decoder, max_batch=4)
