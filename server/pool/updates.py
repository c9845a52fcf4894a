"""The updates of one image job on their way to whoever reads them."""

import asyncio
from collections import deque

from models.diffusion.job import JobUpdate, Progress


class Updates:
    """A queue of updates. Lives on the event loop.

    Of progress that nobody took yet only the latest is kept: a slow reader costs little.
    """

    def __init__(self) -> None:
        self._updates: deque[JobUpdate] = deque()
        self._arrived = asyncio.Event()

    def put(self, update: JobUpdate) -> None:
        """Add an update."""
        if isinstance(update, Progress) and self._updates and isinstance(self._updates[-1], Progress):
            self._updates.pop()
        self._updates.append(update)
        self._arrived.set()

    async def get(self) -> JobUpdate:
        """The next update, as soon as there is one."""
        while not self._updates:
            self._arrived.clear()
            await self._arrived.wait()
        return self._updates.popleft()
