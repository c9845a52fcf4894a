"""``python -m load_tests.open_loop``: latency of documents with pictures over offered load.

A closed loop of callers, who each wait for an answer before they ask again, slows down with its server and hides the
line before it. It is used here for one thing: how many answers a second the server gives when it is always busy. Of
these, as many as there are callers are not counted at the beginning, and as many at the end. Then callers come by a
Poisson process, and in bursts, at shares of that rate, whether or not those before them have been answered. Seconds
count from when a caller should have come.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from load_tests.open_loop.arrivals import BURST, Pattern
from load_tests.open_loop.callers import MAX_IMAGES, MAX_TOKENS, Answer, Seen
from load_tests.results import Cell, Results, Series, arguments_of
from load_tests.service.deployment import Kind, deployed
from load_tests.service.threads import service_threads

CONCURRENCY = 16
"""Of the closed loop: enough that the server is always busy."""
PERCENTILES = (50, 90)
"""Beyond which the callers of one rate are too few."""
SLO_FIRST_TOKEN_S = 0.5
SLO_WHOLE_S = 20.0
"""An answer within both counts as goodput."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        closed: answers of the closed loop that are counted.
        callers: at each rate.
        shares: rates, in that of the closed loop.
    """

    closed: int
    callers: int
    shares: tuple[float, ...]


FULL = Scale(closed=48, callers=60, shares=(0.4, 0.6, 0.8, 1.1))
QUICK = Scale(closed=16, callers=8, shares=(0.8,))


@dataclass(frozen=True, slots=True)
class Slice:
    """Callers at one rate.

    Attributes:
        pattern: of their coming.
        share: of what the closed loop was given.
        seen: by them.
    """

    pattern: Pattern
    share: float
    seen: Seen

    @property
    def first_tokens(self) -> list[float]:
        """Milliseconds to the first text of each answer that has some."""
        return [1e3 * answer.first_token for answer in self.seen.answers if answer.first_token is not None]

    def row(self, rate: float) -> tuple[Cell, ...]:
        """Of the table."""
        pictures = [answer.first_picture for answer in self.seen.answers if answer.first_picture is not None]
        wholes = [answer.whole for answer in self.seen.answers if answer.ended]
        well = [
            answer
            for answer in self.seen.answers
            if answer.ended and (answer.first_token or 0.0) <= SLO_FIRST_TOKEN_S and answer.whole <= SLO_WHOLE_S
        ]
        return (
            self.pattern,
            f"{self.share:.0%}",
            self.share * rate,
            *(cell for of in (self.first_tokens, pictures, wholes) for cell in percentiles(of)),
            sum(answer.status == 429 for answer in self.seen.answers),
            f"{len(well) / len(self.seen.answers):.0%}",
            len(well) / self.seen.seconds,
        )


def percentiles(of: list[float]) -> tuple[Cell, ...]:
    """The median and the 90th percentile; dashes if there is nothing."""
    return tuple(float(np.percentile(of, percentile)) if of else "-" for percentile in PERCENTILES)


COLUMNS = (
    "arrivals",
    "load",
    "callers a second",
    "first token p50 (ms)",
    "p90",
    "first picture p50 (s)",
    "p90",
    "whole answer p50 (s)",
    "p90",
    "refused",
    "within SLO",
    "goodput (answers/s)",
)


def main() -> None:
    """Measure and print."""
    parser = arguments_of("open_loop", __doc__)
    parser.add_argument("--kind", choices=get_args(Kind), default="local", help="the service to start")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    results = Results("open_loop")
    results.describe(
        torch.device("cpu"),
        service_threads(arguments.kind, {}),
        f"service: {arguments.kind}",
        f"answers of {MAX_TOKENS} tokens and {MAX_IMAGES} pictures at most, greedy",
        f"{scale.callers} callers at each rate, bursts of {BURST}",
        f"SLO: first token in {SLO_FIRST_TOKEN_S:g} s, whole answer in {SLO_WHOLE_S:g} s",
    )
    with tempfile.TemporaryDirectory() as logs, deployed(arguments.kind, {}, Path(logs)) as service:
        seeds = itertools.count()  # no slice is asked what another was, of which the server has much in its caches
        count = CONCURRENCY + scale.closed + CONCURRENCY
        closed = call(service.url, next(seeds), f"--concurrency={CONCURRENCY}", f"--count={count}")
        rate = closed.steady_rate(CONCURRENCY)
        print(f"closed loop of {CONCURRENCY}: {rate:.2f} answers a second", flush=True)
        slices = [
            Slice(pattern, share, offered(service.url, next(seeds), pattern, share * rate, scale.callers))
            for pattern in get_args(Pattern)
            for share in scale.shares
        ]
    tell(results, slices, rate)
    results.write(arguments.json)


def call(url: str, seed: int, *options: str) -> Seen:
    """Have the service called by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "seen.json")
        command = [sys.executable, "-m", "load_tests.open_loop.callers", f"--url={url}", f"--json={file}"]
        subprocess.run([*command, f"--seed={seed}", *options], check=True)  # noqa: S603
        seen = json.loads(file.read_text())
    return Seen(seen["seconds"], [Answer(**answer) for answer in seen["answers"]])


def offered(url: str, seed: int, pattern: Pattern, rate: float, callers: int) -> Seen:
    """Callers at a rate."""
    return call(url, seed, f"--pattern={pattern}", f"--rate={rate}", f"--count={callers}")


def tell(results: Results, slices: list[Slice], rate: float) -> None:
    """A table and a plot."""
    title = f"Latency over offered load (100 % is {rate:.2f} answers a second, of a closed loop of {CONCURRENCY})"
    results.table(title, COLUMNS, [each.row(rate) for each in slices])
    lines = [
        Series(
            f"{pattern}, p{percentile}",
            tuple(100 * each.share for each in of_pattern),
            tuple(float(np.percentile(each.first_tokens, percentile)) for each in of_pattern),
        )
        for pattern in get_args(Pattern)
        for of_pattern in [[each for each in slices if each.pattern == pattern and each.first_tokens]]
        for percentile in PERCENTILES
    ]
    results.plot("First token over offered load", "offered load (%)", "milliseconds", lines, log_y=True)


if __name__ == "__main__":
    main()
