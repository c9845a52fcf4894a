"""The one instrument of these benchmarks: when UNet calls began, and over how many rows, in whichever process."""

import asyncio
import struct
import time
from pathlib import Path

import numpy as np

ENTRY = struct.Struct("=dq")
DTYPE = np.dtype([("started", "f8"), ("rows", "i8")])
POLL_S = 0.02


class UNetCalls:
    """A file with an entry for each UNet call. One process writes it, any may read.

    Times are those of ``time.perf_counter()``, which on Linux is one clock for all processes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, rows: int) -> None:
        """A call begins."""
        self._file.write(ENTRY.pack(time.perf_counter(), rows))

    def __len__(self) -> int:
        return self.path.stat().st_size // ENTRY.size

    def read(self, since: int = 0) -> np.ndarray:
        """Entries ``started`` and ``rows`` of all calls but the first ``since``."""
        return np.fromfile(self.path, DTYPE, offset=since * ENTRY.size)

    async def reach(self, calls: int) -> None:
        """Return when so many calls have begun."""
        while len(self) < calls:  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(POLL_S)

    async def fall_silent(self, silence_s: float) -> None:
        """Return when no call has begun for so long."""
        seen = -1
        while seen != (seen := len(self)):  # noqa: ASYNC110
            await asyncio.sleep(silence_s)


def seconds_per_row(entries: np.ndarray) -> float:
    """Of calls that follow each other, from the beginning of the first to that of the last, which is not counted."""
    return float((entries["started"][-1] - entries["started"][0]) / entries["rows"][:-1].sum())
