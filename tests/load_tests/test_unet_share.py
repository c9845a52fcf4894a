"""The share of the UNet in a saturated engine's time."""

from pathlib import Path

import pytest
import torch

from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.traffic import static_batches
from load_tests.pool.unet_calls import UNetCalls
from load_tests.pool.unet_share import seconds_per_row, share, timed_unet


def test_the_share_ends_where_the_last_call_begins() -> None:
    assert share([(10.0, 10.9), (11.0, 11.8), (12.0, 99.0)]) == pytest.approx(0.85)


def test_every_call_of_the_unet_is_timed_while_it_is_watched_and_none_after(tmp_path: Path) -> None:
    decoder = random_decoder(SMALL, torch.device("cpu"), UNetCalls(tmp_path / "calls"))
    batches = static_batches(decoder, SMALL)
    with timed_unet(decoder) as spans:
        assert seconds_per_row(batches, calls=3) > 0
        next(batches)
    next(batches)

    assert len(spans) == 5
    times = [moment for span in spans for moment in span]
    assert times == sorted(times)
    assert 0 < share(spans) < 1
