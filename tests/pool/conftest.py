"""Real Redis servers for the tests of the pool. Tests share one and keep apart by their namespaces."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from server.pool.connection import connect
from server.pool.worker import worker
from tests.cutting_proxy import CuttingProxy
from tests.pool.deployment import Deployment
from tests.redis_server import HOST, RedisServer
from tests.tiny_diffusion import random_decoder


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisServer]:
    """Shared: one node that holds all slots and refuses commands over several of them."""
    with RedisServer(cluster=True) as server:
        yield server


@pytest.fixture
async def redis_client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with connect(redis_server.url) as client:
        yield client


@pytest.fixture
async def deployment(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployment]:
    """Servers and workers of one test. Whatever it does, all that they leave behind goes by itself."""
    monkeypatch.setattr(worker, "WAIT_S", 0.1)
    async with Deployment(redis_server.url, namespace, random_decoder()) as deployment:
        yield deployment
        assert await deployment.lasting() == []
        await deployment.end()
        assert await deployment.lasting() == []


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[CuttingProxy]:
    """Between one test and the shared server."""
    async with CuttingProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """What a client must be given to trust the authority."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    """Of a server on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    return context


@pytest.fixture
async def tls_proxy(redis_server: RedisServer, certificate: ssl.SSLContext) -> AsyncIterator[CuttingProxy]:
    """The shared server over TLS, whether its binary can do that or not."""
    async with CuttingProxy(redis_server.port, tls=certificate) as proxy:
        yield proxy
