"""Which cores processes run on."""

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Halves:
    """The cores that this process may use, in two halves.

    Attributes:
        text: for the language model, its server, its Redis and its callers.
        pictures: for the diffusion worker.
    """

    text: frozenset[int]
    pictures: frozenset[int]


def halves() -> Halves | None:
    """The two halves, unless there is one core only."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    half = len(cores) // 2
    return Halves(frozenset(cores[: len(cores) - half]), frozenset(cores[len(cores) - half :]))


def move(process: psutil.Process, cores: Collection[int]) -> None:
    """Put a process on some cores, with all threads that it has. Those that they start later stay with them."""
    for thread in process.threads():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread.id, cores)
