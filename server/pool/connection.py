"""Clients of Redis: a shared pool of connections for commands that answer at once, and single ones for those that wait.

What redis-py does by default and is not done here: it sends a command again when the connection broke before its answer
came, and the command may then have been done twice. Only connecting is tried again here. And its pool that waits for a
free connection lets newcomers go first: with a thousand commands at once some would wait for seconds.
"""

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from server.pool.redis_url import RedisURL, parse_redis_url, safe_url

__all__ = ["connect", "dedicated", "safe_url"]

HEALTH_CHECK_S = 30
NO_RETRY = Retry(NoBackoff(), retries=0)
# Not after a timeout: that has waited long enough.
CONNECT_RETRY = Retry(
    ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=2, supported_errors=(RedisConnectionError,)
)


def connect(url: str, *, name: str = "dreamserve", max_connections: int = 16, timeout_s: float = 5.0) -> Redis:
    """A client for commands that answer at once; answers are bytes. It connects when it is first used.

    Args:
        url: see :func:`~server.pool.redis_url.parse_redis_url`.
        name: under which ``CLIENT LIST`` shows its connections; no spaces.
        max_connections: commands at work at one time. More wait for a free connection, up to ``timeout_s``.
        timeout_s: to connect, and for each answer.

    Raises:
        ValueError: the URL is wrong.
    """
    return _Origin(parse_redis_url(url), name, timeout_s).client(max_connections, answer_s=timeout_s)


def dedicated(client: Redis, *, block_s: float) -> Redis:
    """A client of the same Redis with one connection of its own, for one blocking reader or one subscription.

    Its commands are never sent from the shared connections, and closing either client leaves the other open.

    Args:
        client: made by :func:`connect`.
        block_s: the longest that a command may wait in Redis (its BLOCK). An answer that is later than the client's
            ``timeout_s`` after that raises ``redis.TimeoutError``: a Redis that froze is noticed.
    """
    pool = client.connection_pool
    if not isinstance(pool, _Pool):
        raise TypeError("this client was not made by connect()")
    return pool.origin.client(1, answer_s=block_s + pool.origin.timeout_s)


class _Cancellable(AbstractConnection):
    """Loses no cancellation.

    redis-py sends within ``asyncio.wait_for``, and in Python 3.11 that drops a cancellation which comes in the moment
    when the sending ends. A task that was cancelled would go on, and whoever waits for its end would wait for ever.
    """

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().send_packed_command(*arguments, **options)
        if task and task.cancelling() > before:
            # Nobody will read the answer.
            await self.disconnect(nowait=True)
            raise asyncio.CancelledError


class _Connection(_Cancellable, Connection):
    pass


class _SSLConnection(_Cancellable, SSLConnection):
    pass


class _UnixConnection(_Cancellable, UnixDomainSocketConnection):
    pass


class _SentinelConnection(_Cancellable, SentinelManagedConnection):
    pass


class _SentinelSSLConnection(_Cancellable, SentinelManagedSSLConnection):
    pass


class _Pool(ConnectionPool):
    """Connections that work when they are handed out, to whoever has waited longest.

    Those that died while idle are replaced unseen.
    """

    origin: "_Origin"

    def __init__(self, *, max_connections: int, timeout_s: float, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(max_connections)  # wakes in the order of coming

    async def get_connection(self, *_: object, **__: object) -> AbstractConnection:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise RedisConnectionError(f"no connection to {self.origin.url} became free in time") from None
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        try:
            await super().release(connection)
        finally:
            self._free.release()

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        ensure = super().ensure_connection

        async def ready() -> None:
            await ensure(connection)
            try:
                await connection.check_health()  # type: ignore[no-untyped-call]
            except RedisTimeoutError as error:
                raise RedisConnectionError("the connection died while it was idle") from error

        try:
            await CONNECT_RETRY.call_with_retry(
                ready,
                lambda _: connection.disconnect(nowait=True),
                is_retryable=lambda error: not isinstance(error, AuthenticationError),
            )
        except AuthenticationError as error:
            raise AuthenticationError(f"{self.origin.url} refuses user name or password: {error}") from error


class _SentinelPool(SentinelConnectionPool, _Pool):
    """Connections to the master that the Sentinels name at the time of connecting."""

    async def get_master_address(self) -> tuple[str, int]:
        try:
            address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            # redis-py's own message shows each Sentinel with all its options and leaves out what went wrong.
            raise MasterNotFoundError(
                f"no Sentinel of {self.origin.url} names a master that is up: they are away, refuse the "
                "sentinel_password, or do not know the name"
            ) from error
        return address

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the clients of one :func:`connect` have in common."""

    url: RedisURL
    name: str
    timeout_s: float

    def client(self, max_connections: int, *, answer_s: float) -> Redis:
        """A client with a pool of its own, which waits so long for each answer."""
        pool = self._pool(
            max_connections=max_connections,
            timeout_s=self.timeout_s,
            socket_timeout=answer_s,
            socket_connect_timeout=self.timeout_s,
            health_check_interval=HEALTH_CHECK_S,
            retry=NO_RETRY,
            # Every server and proxy speaks RESP2, ACL users need no right to HELLO, and its answers have one shape.
            protocol=2,
            decode_responses=False,
            client_name=self.name,
            driver_info=None,
            username=self.url.username,
            password=self.url.password,
            db=self.url.db,
        )
        pool.origin = self
        return Redis.from_pool(pool)

    def _pool(self, **options: Any) -> _Pool:
        if self.url.path is not None:
            return _Pool(connection_class=_UnixConnection, path=self.url.path, **options)
        options["socket_keepalive"] = True
        tls = asdict(self.url.tls) if self.url.tls else {}
        if self.url.master is not None:
            connection_class = _SentinelSSLConnection if tls else _SentinelConnection
            return _SentinelPool(  # type: ignore[no-untyped-call]
                self.url.master, self._sentinels(tls), connection_class=connection_class, **tls, **options
            )
        [(host, port)] = self.url.hosts
        return _Pool(connection_class=_SSLConnection if tls else _Connection, host=host, port=port, **tls, **options)

    def _sentinels(self, tls: dict[str, Any]) -> Sentinel:
        """The Sentinels are asked one after the other, so one that is away must not hold up the next."""
        return Sentinel(  # type: ignore[no-untyped-call]
            self.url.hosts,
            sentinel_kwargs={
                "socket_timeout": self.timeout_s,
                "socket_connect_timeout": self.timeout_s,
                "retry": NO_RETRY,
                "protocol": 2,
                "client_name": self.name,
                "driver_info": None,
                "username": self.url.sentinel_username,
                "password": self.url.sentinel_password,
                "ssl": bool(tls),
                **tls,
            },
        )
