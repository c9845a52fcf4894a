"""``python -m load_tests.fan_out``: 1,000 readers on one server process, at 20 tokens a second each.

It stands beside a bare loop that sends the same events. Both servers are processes of their own on uvicorn, uvloop and
httptools, and take their tokens from the same clock: one at a time for every reader, 20 times a second, all at the same
moment, as a step of vLLM hands them out. What a server has not taken by the next tick waits for it and is taken with
it, as from vLLM's own queue. Ours is the whole server, whose language model is that clock: validation, admission,
detokenisation, stop strings, parts, events. The other is ``sse-starlette`` around a loop that has the text already.

The readers are in the process that measures. They parse nothing: the text of each token names its tick, so the last
word of a frame says how late it is. CPU time is the server process's own, for each token that came to a reader.
"""

import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import uvloop

from load_tests.fan_out.readers import readers_of
from load_tests.fan_out.servers import SERVERS
from load_tests.fan_out.serving import serving
from load_tests.fan_out.ticks import TICKS_PER_S, load_tokenizer, words
from load_tests.results import Results, Series, arguments_of
from server.demo import terminated

KIB = 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        readers: at one time, by turns; rising.
        rounds: with new processes, of which the median counts.
        window_s: of each count of readers.
        settle_s: before it.
    """

    readers: tuple[int, ...]
    rounds: int
    window_s: float
    settle_s: float


FULL = Scale(readers=(100, 300, 1000), rounds=5, window_s=10.0, settle_s=2.0)
QUICK = Scale(readers=(100, 1000), rounds=1, window_s=5.0, settle_s=1.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did for so many readers.

    Attributes:
        readers: at one time.
        cpu: share of one core.
        delivered: tokens, in those that were due.
        us_per_token: microseconds of CPU time for each that was delivered.
        tokens_per_frame: more than one where the server did not keep up with the clock.
        p50_ms: lateness of a frame.
        p99_ms: likewise.
        kib_per_reader: of resident memory, beyond what the process had before it had any.
    """

    readers: int
    cpu: float
    delivered: float
    us_per_token: float
    tokens_per_frame: float
    p50_ms: float
    p99_ms: float
    kib_per_reader: float


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("fan_out", __doc__).parse_args()
    signal.signal(signal.SIGTERM, terminated)  # servers are processes of their own: whatever ends this ends them
    scale = QUICK if arguments.quick else FULL
    results = Results("fan_out")
    results.describe(
        torch.device("cpu"),
        f"{TICKS_PER_S} tokens a second for each reader, uvicorn with uvloop and httptools, readers in another process",
        f"{scale.rounds} rounds by turns, {scale.window_s:g} s each, medians",
    )
    rounds: dict[str, list[list[Load]]] = {name: [] for name in SERVERS}
    for _ in range(scale.rounds):
        for name, loads in rounds.items():
            loads.append(uvloop.run(measure(name, scale)))
    report(results, rounds, scale)
    results.write(arguments.json)


async def measure(name: str, scale: Scale) -> list[Load]:
    """One server process, with more and more readers."""
    loads = []
    ticking = list(words(load_tokenizer()))
    with TemporaryDirectory() as logs, serving(name, Path(logs) / "server.log") as (port, process):
        resident = process.memory_info().rss
        async with readers_of(port, ticking) as readers:
            for count in scale.readers:
                await readers.grow(count)
                await readers.watch(scale.settle_s)
                before, began = process.cpu_times(), time.monotonic()
                window = await readers.watch(scale.window_s)
                after, seconds = process.cpu_times(), time.monotonic() - began
                cpu_s = after.user + after.system - before.user - before.system
                p50, p99 = np.percentile(window.lateness, [50, 99])
                loads.append(
                    Load(
                        readers=count,
                        cpu=cpu_s / seconds,
                        delivered=window.ticks / (count * TICKS_PER_S * seconds),
                        us_per_token=1e6 * cpu_s / window.ticks,
                        tokens_per_frame=window.ticks / window.frames,
                        p50_ms=1000 * p50,
                        p99_ms=1000 * p99,
                        kib_per_reader=(process.memory_info().rss - resident) / KIB / count,
                    )
                )
    return loads


def report(results: Results, rounds: dict[str, list[list[Load]]], scale: Scale) -> None:
    """Print tables and goals."""
    medians = {
        name: [median_of([loads[i] for loads in of_server]) for i in range(len(scale.readers))]
        for name, of_server in rounds.items()
    }
    results.table(
        "A server process and its readers",
        (
            "server",
            "readers",
            "CPU, of one core",
            "tokens delivered, of those due",
            "CPU a token, µs",
            "tokens a frame",
            "late p50, ms",
            "late p99, ms",
            "memory a reader, KiB",
        ),
        [
            (
                name,
                load.readers,
                load.cpu,
                load.delivered,
                load.us_per_token,
                load.tokens_per_frame,
                load.p50_ms,
                load.p99_ms,
                load.kib_per_reader,
            )
            for name, loads in medians.items()
            for load in loads
        ],
    )
    for title, unit in (("us_per_token", "CPU a token, µs"), ("p99_ms", "lateness p99, ms")):
        series = [
            Series(name, tuple(map(float, scale.readers)), tuple(getattr(load, title) for load in loads))
            for name, loads in medians.items()
        ]
        results.plot(f"Fan-out: {unit}", "readers", unit, series)
    for i, readers in enumerate(scale.readers):
        ratios = [
            ours[i].us_per_token / bare[i].us_per_token
            for ours, bare in zip(rounds["ours"], rounds["bare"], strict=True)
        ]
        results.at_most(f"fan_out_cpu_of_bare_loop_{readers}_readers", statistics.median(ratios), 1.3)


def median_of(loads: Sequence[Load]) -> Load:
    """Each number's median."""
    fields = Load.__dataclass_fields__
    return Load(**{name: statistics.median(getattr(load, name) for load in loads) for name in fields})


if __name__ == "__main__":
    main()
