"""``python -m load_tests.open_loop.callers``: callers of documents, who come at given times, in a process of their own.

What it writes is the JSON of a :class:`Seen`.
"""

import argparse
import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import uvloop

from load_tests.answers.prompts import prompts
from load_tests.open_loop.arrivals import Pattern, arrivals
from load_tests.streams import stream

MAX_TOKENS = 96
MAX_IMAGES = 2
TEXT, PICTURE, END = "text", "picture", "end"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one caller saw; in seconds from when he should have come, so that nobody's being late is left out.

    Attributes:
        due: when that was, in seconds from the first caller.
        status: of the response.
        first_token: until the first text.
        first_picture: until the first picture; None if there was none.
        whole: until the end.
        ended: whether the answer came to a good end.
    """

    due: float
    status: int
    first_token: float | None
    first_picture: float | None
    whole: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What all callers saw.

    Attributes:
        seconds: from the first caller to the last answer.
        answers: one for each caller.
    """

    seconds: float
    answers: list[Answer]

    def steady_rate(self, concurrency: int) -> float:
        """Answers a second of a closed loop while so many callers were always waiting, and the service was warm.

        That is from when as many have been answered as there are callers until as many are left, for whom nobody comes
        any more.

        Raises:
            RuntimeError: an answer came to no good end, so that the rate would mean nothing.
        """
        if not all(answer.ended for answer in self.answers):
            raise RuntimeError("not all callers of the closed loop were answered")
        ends = sorted(answer.due + answer.whole for answer in self.answers)
        first, last = concurrency - 1, len(ends) - concurrency - 1
        return (last - first) / (ends[last] - ends[first])


def label(event: bytes) -> str | None:
    """What an event of ``/v1/interleaved`` brings, if it matters."""
    if b"event: text.delta" in event:
        return TEXT
    if b"event: image.completed" in event:
        return PICTURE
    return END if b"event: document.completed" in event else None


async def ask(url: str, prompt: str, begin: float, at: float) -> Answer:
    """One caller, so many seconds from the beginning."""
    due = begin + at
    await asyncio.sleep(due - time.perf_counter())
    body = {
        "input": prompt,
        "stream": True,
        "temperature": 0.0,
        "max_tokens": MAX_TOKENS,
        "images": {"max": MAX_IMAGES},
    }
    answer = await stream(f"{url}/v1/interleaved", body, label)
    texts, pictures = answer.times(TEXT), answer.times(PICTURE)
    return Answer(
        due=at,
        status=answer.status,
        first_token=texts[0] - due if texts else None,
        first_picture=pictures[0] - due if pictures else None,
        whole=answer.ended - due,
        ended=bool(answer.times(END)),
    )


async def open_loop(url: str, times: Iterable[float], seed: int) -> list[Answer]:
    """Callers who come at given seconds from now, and wait for nobody."""
    due = list(times)
    begin = time.perf_counter()
    asking = [ask(url, prompt, begin, at) for prompt, at in zip(prompts(len(due), seed), due, strict=True)]
    return await asyncio.gather(*asking)


async def closed_loop(url: str, concurrency: int, count: int, seed: int) -> list[Answer]:
    """So many callers at a time, each of whom asks again when he has been answered."""
    waiting = iter(prompts(count, seed))
    answers: list[Answer] = []
    begin = time.perf_counter()

    async def caller() -> None:
        for prompt in waiting:
            now = time.perf_counter() - begin
            answers.append(await ask(url, prompt, begin, now))

    async with asyncio.TaskGroup() as callers:
        for _ in range(concurrency):
            callers.create_task(caller())
    return answers


async def timed(calling: Awaitable[list[Answer]]) -> Seen:
    """Have callers come, and take the time."""
    begin = time.perf_counter()
    answers = await calling
    return Seen(time.perf_counter() - begin, answers)


def main() -> None:
    """Call, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.open_loop.callers", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--json", type=Path, required=True, help="file for what was seen")
    parser.add_argument("--count", type=int, required=True, help="callers in all")
    parser.add_argument("--pattern", choices=get_args(Pattern), default="poisson")
    parser.add_argument("--rate", type=float, help="callers a second")
    parser.add_argument("--concurrency", type=int, help="instead: a closed loop of so many")
    parser.add_argument("--seed", type=int, required=True, help="of times and prompts")
    arguments = parser.parse_args()
    if arguments.concurrency is None:
        times = arrivals(arguments.pattern, arguments.rate, arguments.count, arguments.seed)
        calling: Awaitable[list[Answer]] = open_loop(arguments.url, times, arguments.seed)
    else:
        calling = closed_loop(arguments.url, arguments.concurrency, arguments.count, arguments.seed)
    arguments.json.write_text(json.dumps(dataclasses.asdict(uvloop.run(timed(calling)))))


if __name__ == "__main__":
    main()
