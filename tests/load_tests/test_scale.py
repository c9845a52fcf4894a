"""The scale benchmark: workers come and go, and what a picture costs Redis is told by Redis."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.pools import unattended_redis_pool
from load_tests.pool.unet_calls import UNetCalls
from load_tests.redis_server import redis_server, redis_version
from load_tests.results import Results
from load_tests.scale import redis_load
from load_tests.scale.redis_load import SIZES, cost
from load_tests.scale.workers import CALL_S, NAMESPACE, Crew, SleepingDecoder, Throughput, report, sleeping_decoder
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


async def test_a_crew_becomes_larger_and_smaller_and_the_pool_knows(tmp_path: Path) -> None:
    description = random_decoder(SMALL, CPU, UNetCalls(tmp_path / "unused")).description
    with redis_server() as url:
        pool = unattended_redis_pool(url, NAMESPACE, description, SMALL)
        crew = Crew(url, tmp_path)
        await pool.start(SMALL.states())
        try:
            for workers in (1, 0):
                await crew.become(workers, pool)
                assert len(crew.calls) == workers
                assert (await pool.load()).workers_alive == workers
        finally:
            await crew.close()
            await pool.close()


def test_a_machine_that_slows_down_meanwhile_does_not_count_against_more_workers() -> None:
    def window(rows_per_s: float) -> Throughput:
        return Throughput(rows_per_s, rows_per_call=8.0, pictures_per_s=1.0)

    # Rising, then falling, as the machine loses one in a hundred from window to window.
    results = Results("scale")
    report(results, {1: [window(10.0), window(9.7)], 2: [window(19.8), window(19.6)]})
    [goal] = results.goals
    assert goal.name == "scale_2_workers_of_linear"
    assert goal.value == pytest.approx(1.0)


def test_a_redis_says_what_it_is() -> None:
    with redis_server() as url:
        name, version = redis_version(url).split()
    assert name in ("redis", "valkey")
    assert all(part.isdecimal() for part in version.split("."))


def test_a_sleeping_unet_takes_its_time_and_writes_down_its_rows(tmp_path: Path) -> None:
    decoder = sleeping_decoder(UNetCalls(tmp_path / "calls"), CALL_S / 100)
    latents = torch.randn(3, 4, SMALL.latent_side, SMALL.latent_side)
    prediction = decoder.predict(latents, torch.zeros(3), Conditioning(torch.zeros(3, 8, 128), {}))

    assert isinstance(decoder, SleepingDecoder)
    assert prediction.shape == latents.shape
    assert UNetCalls(tmp_path / "calls").read()["rows"].tolist() == [3]
