"""``python -m load_tests.answers``: answers a minute, in those of a plain program.

The program, :mod:`load_tests.answers.plain`, is what one would write with transformers and diffusers: one request at a
time. The service is one server that also draws. Both have the same checkpoint, prompts and limits, and both decode
greedily. Each has the threads and the OpenMP that it has where nobody chooses any: the program those that torch brings,
the service its own choice. No prompt comes twice in a slice, and hardly one in two: caches help with what all prompts
share. A slice of the service, at each concurrency, lies between two of the program and is held against their mean. An
answer is worth what is in it, so the table says how many pictures and tokens the answers of each had.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import httpx
import torch

from load_tests.answers.plain import READY
from load_tests.answers.prompts import prompts
from load_tests.conditions import threads_here
from load_tests.results import Results, Series, arguments_of
from load_tests.service.deployment import deployed
from load_tests.service.threads import service_threads
from server.openmp import INTEL_OPENMP

GOALS = {1: 1.0, 16: 6.0}
"""Answers a minute at so many requests at a time, in those of the program."""
CONCURRENCIES = (1, 4, 16)
MAX_TOKENS = 160
MAX_IMAGES = 3
ANSWER_LIMIT_S = 600.0
WARM_UP_SEED = 1000
PROGRAM = "transformers + diffusers"
INTELS, GNUS = "Intel's", "GNU's, which torch brings"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: of which the median counts.
        alone: answers of each slice in which there is one request at a time.
        each: of each caller where there are more.
    """

    rounds: int
    alone: int
    each: int


FULL = Scale(rounds=5, alone=8, each=4)
QUICK = Scale(rounds=1, alone=2, each=1)


@dataclass(frozen=True, slots=True)
class Slice:
    """So many answers, and how long they took."""

    seconds: float
    answers: int
    images: int
    tokens: int

    @property
    def per_minute(self) -> float:
        """Answers a minute."""
        return 60 * self.answers / self.seconds


class Program:
    """The plain program, in a process of its own, which does nothing while it is not asked.

    Args:
        asked: the standard input of the process.
        answers: its standard output.
    """

    def __init__(self, asked: IO[str], answers: IO[str]) -> None:
        self._asked = asked
        self._answers = answers

    def slice(self, asked: Sequence[str]) -> Slice:
        """Ask it one prompt after the other."""
        begin = time.perf_counter()
        counted = [json.loads(self._exchange(json.dumps(prompt))) for prompt in asked]
        seconds = time.perf_counter() - begin
        return Slice(seconds, len(asked), sum(a["images"] for a in counted), sum(a["tokens"] for a in counted))

    def wait_until_ready(self) -> None:
        """Return when it has loaded the model.

        Raises:
            RuntimeError: it ended.
        """
        while self._read() != READY:
            pass

    def _exchange(self, line: str) -> str:
        self._asked.write(f"{line}\n")
        self._asked.flush()
        return self._read()

    def _read(self) -> str:
        if not (line := self._answers.readline()):
            raise RuntimeError("the plain program ended; its error is above")
        return line.strip()


@contextmanager
def program() -> Iterator[Program]:
    """Start it, and stop it at the end."""
    command = [sys.executable, "-m", "load_tests.answers.plain"]
    command += [f"--max-tokens={MAX_TOKENS}", f"--max-images={MAX_IMAGES}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:  # noqa: S603
        try:
            started = Program(cast(IO[str], process.stdin), cast(IO[str], process.stdout))
            started.wait_until_ready()
            yield started
        finally:
            process.terminate()


async def served(url: str, asked: Sequence[str], concurrency: int) -> Slice:
    """Ask the service, so many prompts at a time.

    Raises:
        httpx.HTTPStatusError: it refused.
    """
    waiting = iter(asked)
    documents = []

    async def caller(client: httpx.AsyncClient) -> None:
        for prompt in waiting:
            body = {"input": prompt, "temperature": 0.0, "max_tokens": MAX_TOKENS, "images": {"max": MAX_IMAGES}}
            response = await client.post("/v1/interleaved", json=body)
            documents.append(response.raise_for_status().json())

    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_LIMIT_S, trust_env=False) as client:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as callers:
            for _ in range(concurrency):
                callers.create_task(caller(client))
        seconds = time.perf_counter() - begin
    usages = [document["usage"] for document in documents]
    images, tokens = (sum(usage[key] for usage in usages) for key in ("images", "completion_tokens"))
    return Slice(seconds, len(documents), images, tokens)


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("answers", __doc__).parse_args()
    scale = QUICK if arguments.quick else FULL
    results = Results("answers")
    results.describe(
        torch.device("cpu"),
        f"{service_threads('local', {})}, the program with {threads_here()}",
        f"OpenMP: {INTELS if INTEL_OPENMP.is_file() else GNUS} in the service, {GNUS} in the program",
        f"greedy answers of {MAX_TOKENS} tokens and {MAX_IMAGES} pictures at most",
        "pictures and steps as the checkpoint recommends",
        f"{scale.rounds} rounds by turns, medians",
    )
    with tempfile.TemporaryDirectory() as logs, deployed("local", {}, Path(logs)) as service, program() as plain:
        slices, ratios = measure(service.url, plain, scale)
    tell(results, slices, ratios)
    results.write(arguments.json)


def measure(url: str, plain: Program, scale: Scale) -> tuple[dict[int, list[Slice]], dict[int, list[float]]]:
    """Slices by concurrency, 0 for the program; and what those of the service were to those of the program."""
    asyncio.run(served(url, prompts(max(CONCURRENCIES), WARM_UP_SEED), max(CONCURRENCIES)))
    slices: dict[int, list[Slice]] = defaultdict(list)
    ratios: dict[int, list[float]] = defaultdict(list)
    before = plain.slice(prompts(scale.alone, WARM_UP_SEED))
    slices[0].append(before)
    for number in range(scale.rounds):
        for concurrency in CONCURRENCIES:
            count = scale.alone if concurrency == 1 else concurrency * scale.each
            asked = prompts(count, seed=number * len(CONCURRENCIES) + CONCURRENCIES.index(concurrency))
            taken = asyncio.run(served(url, asked, concurrency))
            after = plain.slice(asked[: scale.alone])
            slices[concurrency].append(taken)
            slices[0].append(after)
            ratios[concurrency].append(taken.per_minute / statistics.mean((before.per_minute, after.per_minute)))
            before = after
    return slices, ratios


def tell(results: Results, slices: dict[int, list[Slice]], ratios: dict[int, list[float]]) -> None:
    """Tables, a plot and goals.

    Raises:
        RuntimeError: there was not a picture in the answers of one of the two: nothing was compared.
    """
    rows = []
    for concurrency in (0, *CONCURRENCIES):
        of_key = slices[concurrency]
        answers = sum(each.answers for each in of_key)
        images = sum(each.images for each in of_key) / answers
        if not images:
            raise RuntimeError("the answers had no pictures: other prompts are needed for this checkpoint")
        rate = statistics.median(each.per_minute for each in of_key)
        ratio = statistics.median(ratios[concurrency]) if concurrency else 1.0
        name = f"DreamServe, {concurrency} at a time" if concurrency else f"{PROGRAM}, one at a time"
        tokens = sum(each.tokens for each in of_key) / answers
        rows.append((name, rate, ratio, images, tokens))
    columns = ("", "answers a minute", "in those of the program", "pictures an answer", "tokens an answer")
    results.table("Whole answers", columns, rows)
    rates = [statistics.median(each.per_minute for each in slices[c]) for c in (0, *CONCURRENCIES)]
    results.plot(
        "Whole answers",
        "requests at a time",
        "answers a minute",
        [
            Series("DreamServe", CONCURRENCIES, tuple(rates[1:])),
            Series(PROGRAM, CONCURRENCIES, (rates[0],) * len(CONCURRENCIES)),
        ],
        log_x=True,
    )
    for concurrency, goal in GOALS.items():
        results.at_least(f"answers_to_plain_program_at_{concurrency}", statistics.median(ratios[concurrency]), goal)


if __name__ == "__main__":
    main()
