"""``python -m load_tests.fan_out``: 1,000 readers on one server process, at 20 tokens a second each.

It stands beside vLLM's own API server, asked the same over the same surface, OpenAI's chat. Both are processes of their
own with vLLM's front end, ``AsyncLLM``, behind which a clock stands for the engine core: one token at a time for every
reader, 20 times a second, all at the same moment, as a step of vLLM hands them out. What a server has not asked for by
the next tick comes with that. Each is whole but for the core: ours with validation, admission, detokenisation, parts
and events, the other as ``vllm serve`` starts it.

The readers are in the process that measures. They parse nothing: the text of each token names its tick, so the last
word of a frame says how late it is. CPU time is the server process's own, for each token that came to a reader; that of
the readers is told beside it, for a client without a core to spare would be measured instead of the server.
"""

import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
import uvloop

from load_tests.fan_out.readers import readers_of
from load_tests.fan_out.serving import HEALTH, serving
from load_tests.fan_out.ticks import TICKS_PER_S, load_tokenizer, words
from load_tests.results import Results, Series, arguments_of
from load_tests.service.threads import COMPUTES_NOTHING
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


FULL = Scale(readers=(100, 300, 1000), rounds=3, window_s=10.0, settle_s=2.0)
QUICK = Scale(readers=(100, 1000), rounds=1, window_s=3.0, settle_s=1.0)


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
        readers_cpu: share of one core that all readers took.
    """

    readers: int
    cpu: float
    delivered: float
    us_per_token: float
    tokens_per_frame: float
    p50_ms: float
    p99_ms: float
    kib_per_reader: float
    readers_cpu: float


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("fan_out", __doc__).parse_args()
    signal.signal(signal.SIGTERM, terminated)  # servers are processes of their own: whatever ends this ends them
    scale = QUICK if arguments.quick else FULL
    results = Results("fan_out")
    results.describe(
        torch.device("cpu"),
        COMPUTES_NOTHING,
        f"{TICKS_PER_S} tokens a second for each reader, uvicorn with uvloop and httptools, readers in another process",
        f"{scale.rounds} rounds by turns, {scale.window_s:g} s each, medians",
    )
    rounds: dict[str, list[list[Load]]] = {name: [] for name in HEALTH}
    for number in range(scale.rounds):
        for name in reversed(rounds) if number % 2 else rounds:
            rounds[name].append(uvloop.run(measure(name, scale)))
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
                before, read_before, began = cpu_seconds(process), time.process_time(), time.monotonic()
                window = await readers.watch(scale.window_s)
                seconds = time.monotonic() - began
                cpu_s, read_s = cpu_seconds(process) - before, time.process_time() - read_before
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
                        readers_cpu=read_s / seconds,
                    )
                )
    return loads


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


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
            "readers' CPU, of one core",
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
                load.readers_cpu,
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
            ours[i].us_per_token / theirs[i].us_per_token
            for ours, theirs in zip(rounds["ours"], rounds["vllm"], strict=True)
        ]
        results.at_most(f"fan_out_cpu_of_vllm_serve_{readers}_readers", statistics.median(ratios), 1.3)


def median_of(loads: Sequence[Load]) -> Load:
    """Each number's median."""
    fields = Load.__dataclass_fields__
    return Load(**{name: statistics.median(getattr(load, name) for load in loads) for name in fields})


if __name__ == "__main__":
    main()
