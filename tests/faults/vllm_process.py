"""vLLM's engine process: it can be stopped in what it does, let go on, and killed."""

import os
import signal
from pathlib import Path

from server.llm.vllm_engine import VLLMEngine

TITLE = b"VLLM::EngineCore"


class VLLMProcess:
    """One engine process.

    Args:
        pid: its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @classmethod
    def of_engine(cls, engine: VLLMEngine) -> "VLLMProcess":
        """The process of an engine that this process has started, maybe beside others."""
        manager = engine.llm.engine_core.resources.engine_manager
        [process] = manager.processes
        return cls(process.pid)

    @classmethod
    def of_server(cls, server: int) -> "VLLMProcess":
        """The one engine process that the process of a server has started."""
        return cls(engine_of(server))

    def freeze(self) -> None:
        """Stop its clock: what it was asked to do is neither done nor refused."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``, frozen or not."""
        os.kill(self.pid, signal.SIGKILL)


def engine_of(server: int) -> int:
    """Id of the one engine process that a process has started."""
    [pid] = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if parent_of(process) == server and title_of(process).startswith(TITLE)
    ]
    return pid


def parent_of(process: Path) -> int | None:
    """Id of the parent of a process; None if it has ended meanwhile."""
    try:
        # After the name of the program, which is in brackets and may hold anything.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def title_of(process: Path) -> bytes:
    """What a process calls itself; nothing if it has ended meanwhile."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
