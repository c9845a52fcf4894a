"""``dreamserve serve`` as an operator starts it: a process with vLLM and a Redis, on the embedded checkpoint."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.vllm_process import VLLMProcess

PATIENT = pytest.mark.timeout(1800)
"""For tests that start a server: that takes half a minute, and where much else goes on, ten."""

READY = re.compile(r"ready at (http://\S+)")
SMALL = {"LLM__KV_CACHE_GIB": 0.25, "LLM__CPU_THREADS": 1, "LOG__LEVEL": "info"}


class ServerProcess:
    """A ready server.

    Attributes:
        client: sends requests to it.
        vllm: its engine process.
    """

    def __init__(self, process: Process, client: httpx.AsyncClient) -> None:
        self._process = process
        self.client = client
        self.vllm = VLLMProcess.of_server(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to stop, as a supervisor does: the process alone, not those that it has started."""
        self._process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """How it ended, once it has; a signal is negative."""
        return await self._process.wait()

    async def status(self, path: str) -> int:
        """The status of an answer to a GET."""
        return (await self.client.get(path)).status_code

    async def is_ready(self) -> bool:
        """Whether it says that requests may be sent to it."""
        return await self.status("/health/ready") == 200


@asynccontextmanager
async def running_server(log: Path, **settings: object) -> AsyncIterator[ServerProcess]:
    """Starts a server, which takes half a minute, and kills it at the end if it is still there.

    Args:
        log: file for what it writes to the terminal; printed at the end, which pytest shows for a test that failed.
        settings: such as ``REDIS__URL``.
    """
    environment = {f"DREAMSERVE_{name}": str(value) for name, value in {**SMALL, **settings}.items()}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "server.cli", "serve", "--no-auth", "--port", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while (url := said(log, process)) is None:  # noqa: ASYNC110 - what it writes is no event
            await asyncio.sleep(0.05)
        async with httpx.AsyncClient(base_url=url, timeout=None) as client:  # noqa: S113
            yield ServerProcess(process, client)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with vLLM's
            await process.wait()
        print_log(log)


def said(log: Path, process: Process) -> str | None:
    """The URL that a server has announced."""
    output = log.read_text()
    assert process.returncode is None, f"the server ended with {process.returncode}:\n{output}"
    announced = READY.search(output)
    return announced[1] if announced else None


def print_log(log: Path) -> None:
    """Print a log under its name."""
    print(f"--- {log.name}\n{log.read_text()}")
