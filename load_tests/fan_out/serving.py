"""A server as a process of its own, from ready to stopped."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from load_tests.text.servers import wait_until_healthy
from server.demo import free_port, stop
from server.llm.vllm_processes import variables
from server.settings import LLMSettings

HOST = "127.0.0.1"
HEALTH = {"ours": "health/ready", "vllm": "health"}
# Contexts may be longer than the model was made for: it computes none.
LONG_CONTEXTS = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}


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
    environment = {**os.environ, **variables(LLMSettings()), **LONG_CONTEXTS}
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,  # noqa: S603
    ):
        try:
            wait_until_healthy(f"http://{HOST}:{port}/{HEALTH[name]}", process, log)
            yield port, psutil.Process(process.pid)
        finally:
            stop(process)
