"""Who asks: some for text without end, others for pictures without end."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from load_tests.streams import Stream, stream
from server.tasks import end

TEXT_CALLERS = 4
PICTURE_CALLERS = 8
"""A full batch of the worker."""
TEXT_TOKENS = 200
PICTURE_STEPS = 250
"""So many that the worker denoises all the time, and hardly ever needs dream states, which the other side computes."""
TEXT, OTHER = "text", "other"


def label(event: bytes) -> str:
    """What an event is noted as."""
    return TEXT if b"event: text.delta" in event else OTHER


def text_request(number: int) -> dict[str, Any]:
    """Text of a fixed length."""
    return {
        "input": f"Tell me story number {number}.",
        "max_tokens": TEXT_TOKENS,
        "ignore_eos": True,
        "seed": number,
        "images": {"max": 0},
        "stream": True,
    }


def picture_request(number: int) -> dict[str, Any]:
    """One picture."""
    return {"prompt": f"picture {number} of a red circle", "steps": PICTURE_STEPS, "seed": number}


async def text_gaps(url: str, seconds: float) -> np.ndarray:
    """Seconds between the events of text that callers see who ask for so long, each its own.

    Raises:
        RuntimeError: a request was refused.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    numbers = itertools.count()
    gaps: list[np.ndarray] = []

    async def call() -> None:
        while loop.time() < until:
            answer = await stream(f"{url}/v1/interleaved", text_request(next(numbers)), label)
            gaps.append(np.diff(require_answered(answer).times(TEXT)))

    async with asyncio.TaskGroup() as calling:
        for _ in range(TEXT_CALLERS):
            calling.create_task(call())
    return np.concatenate(gaps)


@asynccontextmanager
async def asking_for_pictures(url: str, callers: int) -> AsyncIterator[Callable[[], int]]:
    """Callers who ask for pictures meanwhile, each for the next one when it has one.

    Yields:
        Says how many they have had.
    """
    numbers = itertools.count()
    finished = 0

    async def call() -> None:
        nonlocal finished
        while True:
            require_answered(await stream(f"{url}/v1/images/generations", picture_request(next(numbers)), label))
            finished += 1

    calls: list[Coroutine[Any, Any, None]] = [call() for _ in range(callers)]
    calling = [asyncio.create_task(each) for each in calls]
    try:
        yield lambda: finished
        for task in calling:
            if task.done():
                task.result()
    finally:
        await end(calling)


def require_answered(answer: Stream) -> Stream:
    """The answer, unless it is a refusal.

    Raises:
        RuntimeError: it is.
    """
    if answer.status != 200:
        raise RuntimeError(f"the server answered with status {answer.status}")
    return answer
