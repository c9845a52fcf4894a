"""Processes that a benchmark starts and stops."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def spawned(target: Callable[..., None], *arguments: Any) -> AsyncIterator[None]:
    """A function in a process of its own, which is told to stop at the end, and waited for."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)
