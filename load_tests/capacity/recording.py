"""Answers of a running service, timed: what the simulation is measured with, and compared to."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from load_tests.capacity.traffic import Answer
from load_tests.streams import Stream, stream


@dataclass(frozen=True, slots=True)
class Recording:
    """What one answer took, in seconds from its request, and how much it was.

    Attributes:
        asked_s: when it was asked for, from the first one on.
        token_s: of each event with text.
        asked_picture_s: when the first event of each picture came.
        picture_s: when each picture came.
        ended_s: when the answer was complete.
        prompt_tokens: of the request that were not cached.
        segments: tokens of text before, between and after its pictures, by their share of the letters.
    """

    asked_s: float
    token_s: tuple[float, ...]
    asked_picture_s: tuple[float, ...]
    picture_s: tuple[float, ...]
    ended_s: float
    prompt_tokens: int
    segments: tuple[int, ...]

    @property
    def answer(self) -> Answer:
        """As the simulation takes it."""
        return Answer(self.asked_s, self.prompt_tokens, self.segments)

    @property
    def between_tokens_s(self) -> float:
        """Seconds from a token to the next, the mean over an answer of text alone."""
        (tokens,) = self.segments
        return (self.token_s[-1] - self.token_s[0]) / (tokens - 1)


async def record(url: str, body: Mapping[str, Any], epoch: float) -> Recording:
    """Ask ``/v1/interleaved`` for one answer.

    Raises:
        RuntimeError: it is not made to its end.
        ConnectionError: it cannot be asked for.
    """
    came = await stream(f"{url}/v1/interleaved", {**body, "stream": True}, labelled)
    if came.status != 200 or not (completed := [label for _, label in came.noted if label.startswith("completed")]):
        raise RuntimeError(f"an answer failed with status {came.status}: {[label for _, label in came.noted][-1:]}")
    usage = json.loads(completed[0].partition(" ")[2])
    letters = letters_of_segments(came)
    text_tokens = usage["completion_tokens"] - len(came.times("picture"))
    return Recording(
        came.sent - epoch,
        tuple(at - came.sent for at, label in came.noted if label.startswith("text")),
        tuple(at - came.sent for at in came.times("queued")),
        tuple(at - came.sent for at in came.times("picture")),
        came.ended - came.sent,
        usage["prompt_tokens"] - usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
        tuple(round(text_tokens * share / max(1, sum(letters))) for share in letters),
    )


def labelled(event: bytes) -> str | None:
    """What matters of an event."""
    name, _, data = event.partition(b"\ndata: ")
    match name.rpartition(b"event: ")[2]:
        case b"text.delta":
            return f"text {len(json.loads(data)['text'])}"
        case b"image.queued":
            return "queued"
        case b"image.completed":
            return "picture"
        case b"document.completed":
            return f"completed {json.dumps(json.loads(data)['usage'])}"
        case b"document.failed":
            return f"failed {data.decode()}"
        case _:
            return None


def letters_of_segments(came: Stream) -> list[int]:
    """Letters of text before, between and after the pictures."""
    letters = [0]
    for _, label in came.noted:
        if label == "picture":
            letters.append(0)
        elif label.startswith("text"):
            letters[-1] += int(label.removeprefix("text "))
    return letters


async def record_together(url: str, bodies: Sequence[Mapping[str, Any]], at_once: int) -> list[Recording]:
    """Ask for answers, so many at a time, each as soon as one has ended."""
    epoch, waiting, recordings = time.perf_counter(), iter(bodies), list[Recording]()

    async def caller() -> None:
        for body in waiting:
            recordings.append(await record(url, body, epoch))

    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
    return recordings


async def record_at(url: str, bodies: Sequence[Mapping[str, Any]], arrivals_s: Sequence[float]) -> list[Recording]:
    """Ask for each answer at its time, whether those before have ended or not."""
    epoch = time.perf_counter()

    async def ask(body: Mapping[str, Any], arrives_s: float) -> Recording:
        await asyncio.sleep(max(0.0, epoch + arrives_s - time.perf_counter()))
        return await record(url, body, epoch)

    async with asyncio.TaskGroup() as callers:
        asked = [callers.create_task(ask(*pair)) for pair in zip(bodies, arrivals_s, strict=True)]
    return sorted((task.result() for task in asked), key=lambda recording: recording.asked_s)
