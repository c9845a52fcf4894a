"""Ending tasks for certain."""

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when they have ended, however often the caller is itself cancelled meanwhile.

    Some callers are: anyio's cancel scopes cancel again at every await. Results and exceptions stay in the tasks.
    """
    running = {task for task in tasks if not task.done()}
    for task in running:
        task.cancel()
    interruption: asyncio.CancelledError | None = None
    while running:
        try:
            _, running = await asyncio.wait(running)
        except asyncio.CancelledError as error:
            interruption = error
            running = {task for task in running if not task.done()}
    if interruption is not None:
        raise interruption
