"""``dreamserve demo``: what ends it ends its server, and it says when the document is not what it promises."""

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from server import demo
from server.client.generate import Exit
from tests.api.serving import scripted_engine
from tests.cli.conftest import StartServer
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS


@pytest.mark.parametrize(("pictures", "outcome"), [(1, Exit.FAILED), (2, Exit.OK)])
def test_a_document_with_fewer_than_two_pictures_is_a_failure(
    pictures: int, outcome: Exit, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start_server(scripted_engine(*[["", DREAM]] * pictures, [EOS]), ScriptedPool())

    @contextmanager
    def scripted_service(log: Path, console: Console) -> Iterator[str]:
        yield url

    monkeypatch.setattr(demo, "service", scripted_service)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert demo.demo(tmp_path, Console(file=io.StringIO())) is outcome
    finally:
        signal.signal(signal.SIGTERM, before)


STARTED = """
import subprocess, sys
from pathlib import Path
from rich.console import Console
from server import demo

def wait(url, process, log):
    print(process.pid, flush=True)
    process.wait()

demo.wait_until_ready = wait
demo.COMMAND = [sys.executable, "-c", "import signal; signal.pause()"]
demo.demo(Path(sys.argv[1]), Console(stderr=True))
"""


def test_a_sigterm_ends_the_server_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM

    assert not Path(f"/proc/{server}").exists()
