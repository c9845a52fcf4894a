"""A clock that is also a language model: every twentieth of a second one token, whose text tells which tick it is."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from tokenizers import Tokenizer

from server.settings import DEFAULT_CHECKPOINT

TICKS_PER_S = 20
PERIOD_S = 1 / TICKS_PER_S
SPACE = "▁"


def load_tokenizer() -> Tokenizer:
    """Of the embedded checkpoint: a real one, of Llama's kind."""
    return Tokenizer.from_file(str(DEFAULT_CHECKPOINT / "tokenizer.json"))


def words(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of tokens that are a word with a space before it, by that word, in the order of the ticks."""
    ids = {token.removeprefix(SPACE): id for token, id in tokenizer.get_vocab().items() if token.startswith(SPACE)}
    return {word: ids[word] for word in sorted(ids) if word.isascii() and word.isalpha()}


def latest_tick(now: float) -> int:
    """The tick that was due latest at a time of ``time.monotonic()``, which is one clock for all processes."""
    return int(now * TICKS_PER_S)


class Ticks:
    """Gives all listeners the same ticks at the same moments."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Tick, until the end."""
        ticking = asyncio.create_task(self._tick(), name="ticks")
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    async def listen(self) -> AsyncGenerator[list[int], None]:
        """Ticks since the last time, one or more."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            while True:
                yield await listener.take()
        finally:
            self._listeners.discard(listener)

    async def _tick(self) -> None:
        tick = latest_tick(time.monotonic()) + 1
        while True:
            await asyncio.sleep(tick * PERIOD_S - time.monotonic())
            due = latest_tick(time.monotonic())
            for number in range(tick, due + 1):
                for listener in self._listeners:
                    listener.put(number)
            tick = max(tick, due + 1)


class Listener:
    """Ticks that one listener has not taken yet."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._ticked = asyncio.Event()

    def put(self, tick: int) -> None:
        """Add one."""
        self._ticks.append(tick)
        self._ticked.set()

    async def take(self) -> list[int]:
        """All of them, when there are some."""
        await self._ticked.wait()
        self._ticked.clear()
        taken, self._ticks = self._ticks, []
        return taken
