"""What all benchmarks of the pool share: the model, the Redis, and how much is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from load_tests.pool.model import ModelSpec, WatchedDecoder, random_decoder
from load_tests.pool.unet_calls import UNetCalls
from load_tests.redis_server import redis_server
from load_tests.results import Results


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: by turns, of which the median counts.
        calls: UNet calls of each slice of a round, where throughput is measured.
        arrivals: jobs of each server in a round, where latency is measured.
        answers: pictures asked for, where the hand-off is measured.
        pictures: of each number of steps, where commands are counted.
        settling_jobs: that go through a server process before its memory is watched. These and the next are counted
            in steps of :data:`~load_tests.pool.memory.REPORT_EVERY`.
        watched_jobs: that go through it after that.
    """

    rounds: int
    calls: int
    arrivals: int
    answers: int
    pictures: int
    settling_jobs: int
    watched_jobs: int


FULL = Scale(rounds=7, calls=12, arrivals=300, answers=40, pictures=5, settling_jobs=5000, watched_jobs=10_000)
QUICK = Scale(rounds=1, calls=6, arrivals=30, answers=6, pictures=1, settling_jobs=1500, watched_jobs=1000)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where benchmarks run.

    Attributes:
        spec: of the model.
        decoder: such a model; one benchmark at a time draws with it.
        calls: its UNet calls.
        redis_url: of a Redis that is there for this alone.
        folder: for files.
        scale: how much is measured.
        results: what is found.
    """

    spec: ModelSpec
    decoder: WatchedDecoder
    calls: UNetCalls
    redis_url: str
    folder: Path
    scale: Scale
    results: Results


@contextmanager
def open_bench(device: torch.device, scale: Scale) -> Iterator[Bench]:
    """Start a Redis and make the model."""
    with redis_server() as redis_url, TemporaryDirectory() as folder:
        spec = ModelSpec()
        calls = UNetCalls(Path(folder) / "calls")
        decoder = random_decoder(spec, device, calls)
        yield Bench(spec, decoder, calls, redis_url, Path(folder), scale, Results("pool"))
