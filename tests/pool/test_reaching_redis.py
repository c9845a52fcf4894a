"""Pictures over every way to a Redis: with few rights, TLS, Sentinels, a cluster, a unix socket."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.exceptions import NoPermissionError

from server.pool.connection import connect
from tests.cutting_proxy import CuttingProxy
from tests.pool.deployment import Deployment
from tests.pool.rendering import begun, eventually, picture
from tests.redis_server import HOST, RedisSentinel, RedisServer
from tests.tiny_diffusion import make_render_job, random_decoder

Draw = Callable[..., Awaitable[None]]


@pytest.fixture
def draw(namespace: str, caplog: pytest.LogCaptureFixture) -> Draw:
    """Does everything that servers and workers do, over one URL, and sees to it that nothing is refused."""

    async def everything(url: str, onlooker: str | None = None) -> None:
        await _draw(url, onlooker or url, namespace)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []

    return everything


async def _draw(url: str, onlooker: str, namespace: str) -> None:
    async with Deployment(onlooker, namespace, random_decoder()) as deployment:
        first = await deployment.worker(url)
        pool = await deployment.server(url)
        await picture(pool, make_render_job("a", steps=4, previews=1, format="webp"))
        async with begun(pool, make_render_job("given-up", steps=900)):
            await eventually(lambda: first.worker.stats().running == 1)
        await eventually(lambda: first.worker.stats().cancelled == 1)
        async with begun(pool, make_render_job("handed-back", steps=900, priority="high")):
            await eventually(lambda: first.worker.stats().running == 1)
            await first.end()
            second = await deployment.worker(url)
            await eventually(lambda: second.worker.stats().running == 1)
            await pool.load()
        await second.end()
        assert second.task.exception() is None
        await pool.close()
        assert await deployment.is_clean()
        assert await deployment.names("worker") == []


async def test_an_acl_user_needs_no_more_than_the_keys_and_channels_of_the_namespace(
    draw: Draw, namespace: str
) -> None:
    names = f"{{{namespace}:*"
    rules = ["on", ">secret", f"~{names}", f"&{names}", "+@all", "-@admin", "-@dangerous"]
    with RedisServer(users={"dreamer": rules}) as server:
        url = f"redis://dreamer:secret@{HOST}:{server.port}/0"
        async with connect(url) as client:
            with pytest.raises(NoPermissionError):
                await client.get("other")
        await draw(url, onlooker=server.url)


async def test_in_a_cluster_all_keys_of_a_pool_share_a_slot(draw: Draw, redis_cluster: RedisServer) -> None:
    await draw(redis_cluster.url)


async def test_through_sentinels(draw: Draw) -> None:
    with RedisServer(password="secret") as master, RedisSentinel(master) as sentinel:
        await draw(sentinel.url)


async def test_over_tls(draw: Draw, tls_proxy: CuttingProxy, authority_file: Path) -> None:
    await draw(f"rediss://{HOST}:{tls_proxy.port}?ssl_ca_certs={quote(str(authority_file))}")


async def test_over_a_unix_socket(draw: Draw, redis_server: RedisServer) -> None:
    await draw(redis_server.socket_url)
