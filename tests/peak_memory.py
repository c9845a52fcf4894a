"""How much memory something takes at its worst moment, whoever allocates it. Linux only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SELF = Path("/proc/self")


@dataclass
class Peak:
    """Bytes by which this process grew at most; known at the end."""

    growth: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measures what the block takes."""
    (SELF / "clear_refs").write_text("5")  # begins a new high-water mark
    before, peak = resident("VmRSS"), Peak()
    yield peak
    peak.growth = resident("VmHWM") - before


def resident(name: str) -> int:
    """Bytes by the kernel's count."""
    [line] = [line for line in (SELF / "status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
