"""A server as a process of its own, from ready to stopped."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from load_tests.fan_out.servers import HOST
from server.demo import free_port, stop, wait_until_ready


@contextmanager
def serving(name: str, log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server process, from ready to stopped.

    Yields:
        Its port and itself.

    Raises:
        NotStartedError: it did not become ready.
    """
    port = free_port()
    command = [sys.executable, "-m", "load_tests.fan_out.servers", name, str(port)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:  # noqa: S603
        try:
            wait_until_ready(f"http://{HOST}:{port}", process, log)
            yield port, psutil.Process(process.pid)
        finally:
            stop(process)
