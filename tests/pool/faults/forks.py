"""Processes that start at once: they are forks of one that has done the slow imports."""

from multiprocessing import get_context

_IMPORTED_ONCE = ["server.cli", "server.pool.redis", "server.pool.worker_command"]

forks = get_context("forkserver")
forks.set_forkserver_preload(_IMPORTED_ONCE)
