"""``dreamserve demo``: starts the service, asks it for a document, shows and saves the answer, stops the service."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
from rich.console import Console

from server.client.answer import Answer
from server.client.generate import Exit, generate

PICTURES = 2
PROMPT = "Draw two pictures: a red circle, then a blue star."
COMMAND = (sys.executable, "-m", "server.cli", "serve", "--no-auth")
START_LIMIT_S = 240
STOP_LIMIT_S = 40


class NotStartedError(Exception):
    """The service did not become ready."""


def demo(out: Path, console: Console) -> Exit:
    """Run the demo. The server's log goes to ``server.log`` beside the answer. A SIGTERM stops the server too.

    A document with fewer than two pictures is a failure.

    Raises:
        NotStartedError: the service did not become ready; the message ends with its log.
    """
    out.mkdir(parents=True, exist_ok=True)
    # The server is a process of its own: whatever ends the demo has to pass by its end.
    signal.signal(signal.SIGTERM, terminated)
    answer = Answer(PROMPT)
    with service(out / "server.log", console) as url:
        console.print(f"[bold]> {PROMPT}[/bold]\n")
        body = {"input": PROMPT, "temperature": 0.0, "seed": 7}
        outcome = generate(url, answer, body, out, console, console)
    console.print("[dim]the service has stopped[/dim]")
    if outcome is Exit.OK and len(answer.pictures) < PICTURES:
        console.print(f"the document has {len(answer.pictures)} pictures, not {PICTURES}", style="red")
        return Exit.FAILED
    return outcome


def terminated(signum: int, _: FrameType | None) -> NoReturn:
    """Handle a signal by an exception, which runs what ends."""
    sys.exit(128 + signum)


@contextmanager
def service(log: Path, console: Console) -> Iterator[str]:
    """A server of its own process on a free port, from ready to stopped. Yields its URL.

    Raises:
        NotStartedError: see :func:`demo`.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [*COMMAND, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:  # noqa: S603
        try:
            begin = time.monotonic()
            if not console.is_terminal:
                console.print("starting the service …")
            with console.status("starting the service: vLLM loads the model and answers a first request"):
                wait_until_ready(url, process, log)
            console.print(f"[green]ready[/green] [dim]after {time.monotonic() - begin:.0f} s at {url}[/dim]\n")
            yield url
        finally:
            with console.status("stopping the service"):
                stop(process)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, limit_s: float = START_LIMIT_S) -> None:
    """Return when the service takes requests.

    Raises:
        NotStartedError: it ended, or took too long.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStartedError(f"the service ended with code {process.returncode}:\n{tail(log)}")
        try:
            if httpx.get(f"{url}/health/ready", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.25)
    raise NotStartedError(f"the service was not ready after {limit_s} s:\n{tail(log)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the service to end, and make it end if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
