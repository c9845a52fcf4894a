"""Whatever runs several servers in one process."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """As they were before. Servers that don't end in turn leave each other's, and sse-starlette ends every stream of a
    process whose handler belongs to a server that has ended.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
