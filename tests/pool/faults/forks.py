"""Processes that start at once: they are forks of one that has done the slow imports."""

from multiprocessing import get_context

_IMPORTED_ONCE = ["server.cli", "server.pool.redis.pool", "server.pool.worker.command"]

forks = get_context("forkserver")
forks.set_forkserver_preload(_IMPORTED_ONCE)


def do_the_imports() -> None:
    """Blocks for seconds, the first time; afterwards a process starts in milliseconds."""
    first = forks.Process(target=int)
    first.start()
    first.join()
