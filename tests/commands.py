"""Commands run as processes of their own, while the loop of the test goes on serving them."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path


async def run(command: Sequence[str | Path], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command, which must succeed.

    Args:
        command: program and arguments.
        folder: where it works.
        variables: its environment; None: that of the tests.

    Returns:
        What it wrote to its standard output.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=variables, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            await process.wait()
    assert process.returncode == 0, f"{' '.join(map(str, command))}\n{output.decode()}\n{errors.decode()}"
    return output.decode()
