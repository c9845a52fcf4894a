"""One benchmark, in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from load_tests.results import Results

PACKAGE = "load_tests"
LIMIT_S = 2 * 3600.0
QUICK_LIMIT_S = 900.0
"""How long one may take: several times what it does, for only one that hangs is to be ended."""
STOP_LIMIT_S = 30.0


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
        FailedError: it ended badly, or not at all.
        UnavailableError: it cannot run here.
    """
    file = folder / f"{benchmark}.json"
    new = file.with_suffix(".json.new")
    command = [sys.executable, "-m", f"{PACKAGE}.{benchmark}", f"--json={new}", *(["--quick"] if quick else [])]
    try:
        code = exit_code(command, QUICK_LIMIT_S if quick else LIMIT_S)
        if code or not new.exists():
            raise FailedError(f"It ended with code {code}.")
        results = Results.read(new)
        if results.unavailable is not None:
            raise UnavailableError(f"It cannot run here: {results.unavailable}.")
        new.replace(file)
        return results
    finally:
        new.unlink(missing_ok=True)


def exit_code(command: Sequence[str], limit_s: float) -> int:
    """Run a program to its end. Whatever ends this before, ends it and all that it has started.

    Raises:
        FailedError: it has not ended in time.
    """
    # A session of its own makes it a group, which can be ended as one.
    with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise FailedError(f"It had not ended after {limit_s / 60:g} minutes, and was made to.") from None
        finally:
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Tell a process and what is left of all that it has started to end, and end what has not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
        os.killpg(process.pid, signal.SIGKILL)


def earlier(benchmark: str, folder: Path) -> Results | None:
    """What a benchmark found before, if anything."""
    file = folder / f"{benchmark}.json"
    return Results.read(file) if file.exists() else None
