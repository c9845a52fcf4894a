"""What the stand-ins for the language model and the pool follow: scripts, item by item.

They are for tests in which every token, pause and failure must be exact. In a script a :class:`Gate` makes the call
wait until the test opens it, and an exception is raised; what else it may hold, each stand-in says.
"""

import asyncio
from dataclasses import dataclass, field
from enum import Enum


class Token(Enum):
    """Tokens whose ids a script need not know."""

    DREAM = "dream"
    EOS = "eos"


DREAM = Token.DREAM
EOS = Token.EOS


class Gate:
    """A place where a script waits: ``await gate.reached.wait()`` in the test, then ``gate.open()``."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let the script go on."""
        self._opened.set()

    async def wait(self) -> None:
        """What the script does on reaching the gate."""
        self.reached.set()
        await self._opened.wait()


@dataclass
class Recorded:
    """What happened to requests or jobs: ids in the order of the events."""

    running: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
