"""Which cores processes run on."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Halves:
    """The cores that this process may use, in two halves.

    Attributes:
        text: for the language model, its server, its Redis and its callers.
        pictures: for the diffusion worker.
    """

    text: frozenset[int]
    pictures: frozenset[int]

    def siblings(self, system: Path = CPUS) -> bool:
        """Whether some physical core, by what the system tells of itself, has hardware threads in both."""
        return any(siblings_of(core, system) & self.pictures for core in self.text)


def siblings_of(core: int, system: Path) -> set[int]:
    """The hardware threads of a core's physical core, listed as ``0,4`` or ``0-1``; none if the system is silent."""
    told = system / f"cpu{core}" / "topology" / "thread_siblings_list"
    spans = told.read_text().strip().split(",") if told.exists() else []
    ends = [(int(first), int(last or first)) for first, _, last in (span.partition("-") for span in spans)]
    return {thread for first, last in ends for thread in range(first, last + 1)}


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


@contextmanager
def empty_loops(cores: Collection[int]) -> Iterator[None]:
    """A process on each of the cores that keeps it busy without using memory, bandwidth or shared caches."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in cores]
    try:
        for loop, core in zip(loops, cores, strict=True):
            os.sched_setaffinity(loop.pid, {core})
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
