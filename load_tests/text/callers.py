"""``python -m load_tests.text.callers``: chat users who ask, read and ask again, in a process of their own.

What it writes is the JSON of a :class:`Slice`.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import uvloop

from load_tests.streams import Stream, stream

OUTPUT_TOKENS = 64
PROMPT_WORDS = 24
WORDS = (
    "the",
    "a",
    "red",
    "blue",
    "big",
    "small",
    "circle",
    "star",
    "under",
    "above",
    "beside",
    "draws",
    "and",
    "then",
)
TEXT = "text"


@dataclass(frozen=True, slots=True)
class Slice:
    """What callers saw, in seconds.

    Attributes:
        seconds: from the first request to the last response.
        tokens: of all answers.
        first_tokens: from each request to the first text of its answer.
        gaps: from each text of an answer to the next, those that come together counted as one.
    """

    seconds: float
    tokens: int
    first_tokens: list[float]
    gaps: list[float]


def label(event: bytes) -> str | None:
    """Whether an event brings text: both servers begin with one that has a role and no text."""
    return TEXT if b'"content":"' in event and b'"content":""' not in event else None


def body(dice: random.Random, model: str) -> dict[str, object]:
    """A chat request for text alone, whose answer has a given length. Both servers take every field but the last."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": " ".join(dice.choices(WORDS, k=PROMPT_WORDS))}],
        "stream": True,
        "temperature": 0.0,
        "max_tokens": OUTPUT_TOKENS,
        "ignore_eos": True,
        "modalities": ["text"],
    }


async def call(url: str, model: str, concurrency: int, each: int, seed: int) -> Slice:
    """So many callers, each of whom asks so many times.

    Raises:
        RuntimeError: a request was refused.
    """
    streams: list[Stream] = []

    async def caller(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        streams.extend([await stream(f"{url}/v1/chat/completions", body(dice, model), label) for _ in range(each)])

    async with asyncio.TaskGroup() as callers:
        for number in range(concurrency):
            callers.create_task(caller(number))
    if refused := [each.status for each in streams if each.status != 200]:
        raise RuntimeError(f"{len(refused)} requests were answered with {refused[0]}")
    texts = [each.times(TEXT) for each in streams]
    return Slice(
        seconds=max(each.ended for each in streams) - min(each.sent for each in streams),
        tokens=OUTPUT_TOKENS * len(streams),
        first_tokens=[times[0] - each.sent for times, each in zip(texts, streams, strict=True)],
        gaps=[later - sooner for times in texts for sooner, later in itertools.pairwise(sorted(set(times)))],
    )


def main() -> None:
    """Call, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.text.callers", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--json", type=Path, required=True, help="file for what was seen")
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--each", type=int, required=True, help="requests of each caller")
    parser.add_argument("--seed", type=int, required=True, help="of the prompts")
    arguments = parser.parse_args()
    calling = call(arguments.url, arguments.model, arguments.concurrency, arguments.each, arguments.seed)
    arguments.json.write_text(json.dumps(dataclasses.asdict(uvloop.run(calling))))


if __name__ == "__main__":
    main()
