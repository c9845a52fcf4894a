"""One benchmark, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from load_tests.results import Results

PACKAGE = "load_tests"


class FailedError(Exception):
    """A benchmark did not come to its end."""


class UnavailableError(Exception):
    """A benchmark cannot run here."""


def run(benchmark: str, quick: bool, folder: Path) -> Results:
    """Run a benchmark, whose output goes to that of this process.

    Args:
        benchmark: its name.
        quick: whether it is to be short.
        folder: for its JSON, which is only written when it has found something.

    Raises:
        FailedError: it ended badly.
        UnavailableError: it cannot run here.
    """
    file = folder / f"{benchmark}.json"
    new = file.with_suffix(".json.new")
    command = [sys.executable, "-m", f"{PACKAGE}.{benchmark}", f"--json={new}", *(["--quick"] if quick else [])]
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603
        if code or not new.exists():
            raise FailedError(f"It ended with code {code}.")
        results = Results.read(new)
        if results.unavailable is not None:
            raise UnavailableError(f"It cannot run here: {results.unavailable}.")
        new.replace(file)
        return results
    finally:
        new.unlink(missing_ok=True)


def earlier(benchmark: str, folder: Path) -> Results | None:
    """What a benchmark found before, if anything."""
    file = folder / f"{benchmark}.json"
    return Results.read(file) if file.exists() else None
