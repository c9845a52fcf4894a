"""A real Redis for the journal, and server processes that share it."""

import uuid
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Shared: no test stops it or looks beyond its own namespace."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """For one test, which may do to it what it likes."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """That no other test uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a new document gets to Redis in time."""
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 20.0)
