"""The service as processes of this machine: a Redis, a server, and a worker that draws for it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from load_tests.redis_server import redis_server
from server.demo import free_port, stop, wait_until_ready

Kind = Literal["worker", "local", "scripted"]
"""What draws: a worker behind Redis; the server itself, without Redis; stand-ins for both models, with a Redis for
stored documents and pictures."""

START_LIMIT_S = 900.0
"""On a machine that does other things too."""

COMMANDS: Mapping[Kind, tuple[str, ...]] = {
    "worker": ("server.cli", "serve"),
    "local": ("server.cli", "serve"),
    "scripted": ("load_tests.service.scripted_server",),
}

FEW_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128"}
"""For who looks at memory: oneDNN keeps a compiled kernel for each size of a matrix, 1,024 of them. They are 300 MB,
which take ten minutes of mixed traffic to fill."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running service.

    Attributes:
        url: of its server.
        worker_url: of its worker's metrics, if it has one that we know.
        redis_url: of its Redis, if it has one that we know.
        roots: process ids of those that were started, by name; their children belong to them. Empty for a service that
            somebody else started.
    """

    url: str
    worker_url: str | None = None
    redis_url: str | None = None
    roots: Mapping[str, int] | None = None

    def processes(self) -> dict[str, psutil.Process]:
        """All processes by name: ``server``, ``worker``, and vLLM's by their titles, such as ``VLLM::EngineCore``."""
        found: dict[str, psutil.Process] = {}
        for name, pid in (self.roots or {}).items():
            root = psutil.Process(pid)
            found[name] = root
            for child in root.children(recursive=True):
                title = " ".join(child.cmdline()).strip("\0 ")  # what is left of a longer command line
                if title.startswith("VLLM::"):
                    found[title] = child
        return found


@contextmanager
def deployed(kind: Kind, settings: Mapping[str, str], logs: Path) -> Iterator[Deployment]:
    """Start a service, and stop it at the end.

    Args:
        kind: what draws.
        settings: in the form of environment variables. Unless they say otherwise, everybody may ask.
        logs: folder for what the processes write.

    Raises:
        NotStartedError: it did not become ready.
    """
    port, worker_port = free_port(), free_port()
    ports = {"DREAMSERVE_SERVER__PORT": str(port), "DREAMSERVE_WORKER__PORT": str(worker_port)}
    variables = {"DREAMSERVE_AUTH__ENABLED": "false", **settings, **ports}
    url, worker_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{worker_port}"
    with ExitStack() as at_end:
        redis_url = None if kind == "local" else at_end.enter_context(redis_server())
        if redis_url is not None:
            variables["DREAMSERVE_REDIS__URL"] = redis_url
        roots = {}
        if kind == "worker":
            roots["worker"] = at_end.enter_context(
                _process(("server.cli", "worker"), variables, logs / "worker.log", worker_url)
            )
        roots["server"] = at_end.enter_context(_process(COMMANDS[kind], variables, logs / "server.log", url))
        yield Deployment(url, worker_url if kind == "worker" else None, redis_url, roots)


@contextmanager
def _process(module: tuple[str, ...], variables: Mapping[str, str], log: Path, url: str) -> Iterator[int]:
    """A process of a module of Python, from ready to stopped. Yields its id."""
    command = [sys.executable, "-m", *module]
    environment = {**os.environ, **variables}
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            wait_until_ready(url, process, log, START_LIMIT_S)
            yield process.pid
        finally:
            stop(process)
