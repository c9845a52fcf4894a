"""Clients of a real Redis: ways to reach it, and what happens when the connection breaks."""

import asyncio
import ssl
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from redis.asyncio import Redis

from server.pool import connection
from server.pool.connection import connect, dedicated
from tests.cutting_proxy import CuttingProxy
from tests.redis_server import HOST, RedisSentinel, RedisServer, free_port

PASSWORD = "s3cret /?#@:%"  # noqa: S105


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask until it is so; the time limit is that of the test."""
    while not await condition():  # noqa: ASYNC110 - what a server does is no event here
        await asyncio.sleep(0.01)


async def answers(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


async def blocked_clients(client: Redis) -> int:
    return int((await client.info("clients"))["blocked_clients"])


async def test_answers_are_bytes_and_connections_have_a_name(redis_server: RedisServer, namespace: str) -> None:
    async with connect(redis_server.url, name=namespace) as client:
        await client.set(namespace, "ü", ex=60)
        assert await client.get(namespace) == "ü".encode()
        assert namespace in [each["name"] for each in await client.client_list()]


async def test_a_unix_socket_is_a_way_to_the_same_server(
    redis_server: RedisServer, redis_client: Redis, namespace: str
) -> None:
    async with connect(redis_server.socket_url) as client:
        await client.set(namespace, 1, ex=60)
    assert await redis_client.get(namespace) == b"1"


async def test_an_acl_user_may_have_any_name_and_password() -> None:
    with RedisServer(users={"dre@m/s": ["on", f">{PASSWORD}", "~*", "&*", "+@all"]}) as server:
        login = f"{quote('dre@m/s', safe='')}:{quote(PASSWORD, safe='')}"
        async with connect(f"redis://{login}@{HOST}:{server.port}/3") as client:
            assert await client.acl_whoami() == "dre@m/s"
            assert (await client.client_info())["db"] == 3


async def test_a_wrong_password_is_an_error_that_names_the_server_and_no_password_and_is_tried_once() -> None:
    with RedisServer(password=PASSWORD) as server:
        async with connect(f"redis://:wr0ng@{HOST}:{server.port}") as client:
            with pytest.raises(redis.AuthenticationError) as refusal:
                await client.ping()
        assert f"redis://:***@{HOST}:{server.port}/0 refuses user name or password" in str(refusal.value)
        assert "wr0ng" not in str(refusal.value)
        async with connect(server.url) as client:
            assert [(entry["reason"], entry["count"]) for entry in await client.acl_log()] == [("auth", 1)]


async def test_a_missing_password_is_an_error_that_says_so() -> None:
    with RedisServer(password=PASSWORD) as server:
        async with connect(f"redis://{HOST}:{server.port}") as client:
            with pytest.raises(redis.AuthenticationError, match=f"{server.port}/0 refuses .*required"):
                await client.ping()


async def test_tls_works_with_a_trusted_authority(tls_proxy: CuttingProxy, authority_file: Path) -> None:
    url = f"rediss://{HOST}:{tls_proxy.port}?ssl_ca_certs={quote(str(authority_file))}"
    async with connect(url) as client, dedicated(client, block_s=1) as reader:
        assert await client.ping()
        assert await reader.ping()


async def test_tls_refuses_a_server_that_nobody_vouches_for(tls_proxy: CuttingProxy) -> None:
    async with connect(f"rediss://{HOST}:{tls_proxy.port}") as client:
        with pytest.raises(redis.ConnectionError, match=r"CERTIFICATE_VERIFY_FAILED"):
            await client.ping()


async def test_the_master_is_found_through_sentinels_of_which_some_may_be_away() -> None:
    with RedisServer(password=PASSWORD) as master, RedisSentinel(master, password="sentinel+") as sentinel:
        sentinels = f"{HOST}:{free_port()},{HOST}:{sentinel.port}"
        url = f"redis+sentinel://{master.login}{sentinels}/{sentinel.name}/1?sentinel_password=sentinel%2B"
        async with connect(url) as client, dedicated(client, block_s=1) as reader:
            assert await client.set("key", "value")
            assert await reader.get("key") == b"value"
            assert (await client.client_info())["db"] == 1
            assert (await client.config_get("port"))["port"] == str(master.port)


async def test_sentinels_and_master_may_speak_tls(
    redis_server: RedisServer, tls_proxy: CuttingProxy, certificate: ssl.SSLContext, authority_file: Path
) -> None:
    # It cannot see a master behind TLS, and must not say so while the test lasts.
    with RedisSentinel(redis_server, master_port=tls_proxy.port, down_after_ms=600_000) as sentinel:
        async with CuttingProxy(sentinel.port, tls=certificate) as sentinel_proxy:
            place = f"{HOST}:{sentinel_proxy.port}/{sentinel.name}"
            async with connect(f"rediss+sentinel://{place}?ssl_ca_certs={quote(str(authority_file))}") as client:
                assert (await client.config_get("port"))["port"] == str(redis_server.port)
                assert (sentinel_proxy.accepted, tls_proxy.accepted) == (1, 1)


async def test_a_master_that_no_sentinel_knows_is_an_error_that_names_it() -> None:
    with RedisServer(password=PASSWORD) as master, RedisSentinel(master) as sentinel:
        async with connect(sentinel.url.replace(sentinel.name, "nightmares")) as client:
            with pytest.raises(redis.ConnectionError, match=r"^no Sentinel of .*/nightmares/0 names a master"):
                await client.ping()


async def test_clients_follow_a_failover_to_the_new_master() -> None:
    with RedisServer() as master, RedisServer(replicaof=f"{HOST} {master.port}") as replica:
        async with connect(replica.url) as client:
            await until(lambda: _is_synchronised(client))
        with RedisSentinel(master) as sentinel:
            async with connect(sentinel.url) as client, dedicated(client, block_s=60) as reader:
                await client.set("key", "value")
                assert await client.wait(1, 0) == 1
                assert await reader.get("key") == b"value"
                master.kill()
                await until(lambda: answers(client))
                await until(lambda: answers(reader))
                assert (await reader.config_get("port"))["port"] == str(replica.port)
                assert await client.get("key") == b"value"
                assert await client.set("key", "new value")


async def _is_synchronised(replica: Redis) -> bool:
    return bool((await replica.info("replication"))["master_link_status"] == "up")


async def test_in_a_cluster_the_keys_of_one_tag_may_be_used_together(redis_cluster: RedisServer) -> None:
    async with connect(redis_cluster.url) as client:
        script = "return redis.call('SET', KEYS[1], 1) and redis.call('SET', KEYS[2], 2)"
        assert await client.eval(script, 2, "{dreams}:a", "{dreams}:b") == b"OK"
        with pytest.raises(redis.ResponseError, match="slot"):
            await client.eval(script, 2, "a", "b")


async def test_a_cancellation_is_never_lost_whenever_it_comes(redis_client: Redis) -> None:
    for iterations in range(20):
        await redis_client.ping()
        command = asyncio.create_task(redis_client.ping())
        for _ in range(iterations):
            await asyncio.sleep(0)
        if command.cancel():
            await asyncio.wait([command])
            assert command.cancelled()
    assert await redis_client.ping()


async def test_connecting_is_tried_a_few_times() -> None:
    async with CuttingProxy(free_port()) as proxy, connect(f"redis://{HOST}:{proxy.port}") as client:
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        assert proxy.accepted == 3


async def test_a_server_that_accepts_and_never_answers_is_given_up_after_one_timeout(proxy: CuttingProxy) -> None:
    proxy.black_hole()
    async with connect(f"redis://{HOST}:{proxy.port}", timeout_s=0.2) as client:
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert proxy.accepted == 1


async def test_a_server_that_is_away_is_an_error_that_names_it_and_is_used_again_when_it_is_back(
    proxy: CuttingProxy,
) -> None:
    async with connect(f"redis://{HOST}:{proxy.port}") as client:
        assert await client.ping()
        await proxy.refuse()
        with pytest.raises(redis.ConnectionError, match=f"{HOST}:{proxy.port}"):
            await asyncio.gather(*[client.ping() for _ in range(3)])
        await proxy.heal()
        assert await client.ping()


async def test_a_command_is_never_sent_twice(own_redis_server: RedisServer) -> None:
    async with (
        connect(own_redis_server.url) as onlooker,
        CuttingProxy(own_redis_server.port) as proxy,
        connect(f"redis://{HOST}:{proxy.port}", timeout_s=60) as client,
    ):
        waiting = asyncio.create_task(client.blpop(["queue"], timeout=0))
        await until(lambda: blocked_clients(onlooker))
        await proxy.cut()
        with pytest.raises(redis.ConnectionError):
            await waiting
        assert proxy.accepted == 1


async def test_a_connection_that_was_cut_while_idle_is_replaced_unseen(proxy: CuttingProxy) -> None:
    async with connect(f"redis://{HOST}:{proxy.port}", max_connections=1) as client:
        await client.ping()
        idle = await client.connection_pool.get_connection()
        await client.connection_pool.release(idle)
        await proxy.cut()
        await until(lambda: _has_ended(idle))
        assert await client.ping()
        assert proxy.accepted == 2


async def _has_ended(idle: redis.asyncio.Connection) -> bool:
    try:
        return await idle.can_read()
    except redis.ConnectionError:
        return True


async def test_a_connection_that_died_in_silence_while_idle_is_replaced_unseen(
    proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEALTH_CHECK_S", 1e-6)
    async with connect(f"redis://{HOST}:{proxy.port}", max_connections=1, timeout_s=2) as client:
        await client.ping()
        proxy.strand()
        assert await client.ping()
        assert proxy.accepted == 2


@pytest.mark.parametrize("keep_data", [True, False])
async def test_a_client_outlives_a_restart_of_its_server(own_redis_server: RedisServer, keep_data: bool) -> None:
    async with connect(own_redis_server.url) as client:
        await client.set("key", "value")
        await asyncio.to_thread(own_redis_server.restart, keep_data=keep_data)
        await until(lambda: answers(client))
        assert await client.get("key") == (b"value" if keep_data else None)


async def test_a_frozen_server_is_noticed_by_commands_and_by_blocking_readers(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url, timeout_s=1) as client, dedicated(client, block_s=0.1) as reader:
        assert await client.ping()
        assert await reader.ping()
        own_redis_server.freeze()
        results = await asyncio.gather(client.ping(), reader.blpop(["none"], timeout=0.1), return_exceptions=True)
        assert [type(result) for result in results] == [redis.TimeoutError] * 2
        own_redis_server.thaw()
        assert await client.ping()
        assert await reader.ping()


async def test_a_blocking_read_may_take_longer_than_other_answers(redis_server: RedisServer, namespace: str) -> None:
    async with connect(redis_server.url, timeout_s=2) as client, dedicated(client, block_s=2.2) as reader:
        assert await reader.blpop([namespace], timeout=2.2) is None


async def test_blocking_readers_leave_the_shared_connections_free(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url, max_connections=1) as client:
        readers = [dedicated(client, block_s=60) for _ in range(3)]
        waiting = [asyncio.create_task(reader.blpop(["queue"], timeout=60)) for reader in readers]
        await until(lambda: _are_all_blocked(client, len(readers)))
        for number in range(3):
            await client.rpush("queue", number)
        assert {value for _, value in await asyncio.gather(*waiting)} == {b"0", b"1", b"2"}
        for reader in readers:
            await reader.aclose()


async def _are_all_blocked(client: Redis, count: int) -> bool:
    return await blocked_clients(client) == count


async def test_commands_beyond_the_connections_wait_their_turn(redis_server: RedisServer, namespace: str) -> None:
    name = uuid.uuid4().hex
    async with connect(redis_server.url, name=name, max_connections=2, timeout_s=60) as client:
        counts = await asyncio.gather(*[client.incr(namespace) for _ in range(50)])
        assert sorted(counts) == list(range(1, 51))
        assert [each["name"] for each in await client.client_list()].count(name) == 2
        await client.delete(namespace)


async def test_whoever_waits_for_a_connection_is_served_before_those_who_come_later(
    redis_server: RedisServer,
) -> None:
    served = []

    async def ask(client: Redis, number: int) -> None:
        for _ in range(3):
            await client.echo(str(number))
            served.append(number)

    async with connect(redis_server.url, max_connections=2) as client:
        await asyncio.gather(*(ask(client, number) for number in range(50)))
    for turn in range(3):
        assert len(set(served[50 * turn : 50 * (turn + 1)])) >= 48


async def test_a_command_for_which_no_connection_becomes_free_is_an_error_and_takes_none_away(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url, max_connections=1, timeout_s=0.3) as client:
        pool = client.connection_pool
        taken = await pool.get_connection()
        with pytest.raises(redis.ConnectionError, match=r"no connection to .* became free"):
            await client.ping()
        await pool.release(taken)
        assert await client.ping()


async def test_closing_a_client_closes_its_connections(redis_client: Redis, redis_server: RedisServer) -> None:
    name = uuid.uuid4().hex
    client = connect(redis_server.url, name=name)
    reader = dedicated(client, block_s=1)
    await client.ping()
    await reader.ping()
    await reader.aclose()
    assert await client.ping()
    await client.aclose()
    await until(lambda: _is_gone(redis_client, name))


async def _is_gone(client: Redis, name: str) -> bool:
    return name not in [each["name"] for each in await client.client_list()]


async def test_only_clients_from_here_have_dedicated_connections(redis_server: RedisServer) -> None:
    async with Redis(port=redis_server.port) as client:
        with pytest.raises(TypeError, match="connect"):
            dedicated(client, block_s=1)


def test_a_wrong_url_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="user name and no password"):
        connect("redis://s3cret@localhost")
