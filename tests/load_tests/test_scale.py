"""The scale benchmark: what a picture costs Redis, told by Redis."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.unet_calls import UNetCalls
from load_tests.redis_server import redis_server
from load_tests.scale import redis_load
from load_tests.scale.redis_load import SIZES, cost
from load_tests.scale.workers import CALL_S, SleepingDecoder, sleeping_decoder
from models.diffusion.conditioning import Conditioning

CPU = torch.device("cpu")


async def test_a_simulated_picture_is_all_that_a_real_one_says_to_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_load, "WARM_UP_PICTURES", 2)
    description = random_decoder(SMALL, CPU, UNetCalls(tmp_path / "calls")).description
    small = replace(SIZES[0], states_shape=(4, 16), side=16)
    with redis_server() as url:
        found = await cost(url, description, small, pictures=20)

    assert found.cpu_ms > 0
    # One script to submit, one to finish, and its picture is fetched.
    assert found.commands["evalsha"][0] >= 2
    assert found.commands["getdel"][0] == pytest.approx(1)


def test_a_sleeping_unet_takes_its_time_and_writes_down_its_rows(tmp_path: Path) -> None:
    decoder = sleeping_decoder(UNetCalls(tmp_path / "calls"), CALL_S / 100)
    latents = torch.randn(3, 4, SMALL.latent_side, SMALL.latent_side)
    prediction = decoder.predict(latents, torch.zeros(3), Conditioning(torch.zeros(3, 8, 128), {}))

    assert isinstance(decoder, SleepingDecoder)
    assert prediction.shape == latents.shape
    assert UNetCalls(tmp_path / "calls").read()["rows"].tolist() == [3]
