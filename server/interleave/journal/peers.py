"""What processes that share a Redis tell each other: that they live, and what is wanted of their documents."""

import logging
from collections.abc import Sequence
from enum import Enum
from time import monotonic
from typing import cast

from redis.asyncio import Redis

from server.interleave.journal.keys import Keys

logger = logging.getLogger(__name__)

MAX_REQUESTS = 1000  # that are fetched together


class Wish(Enum):
    """What a process wants of another one's document."""

    SEE = "see"
    """It has a reader."""
    CANCEL = "cancel"
    """It is to be ended."""
    DELETE = "delete"
    """It has ended, and is to be forgotten."""


class Peers:
    """This process among the others.

    Args:
        client: of the Redis.
        keys: of the journal.
        server_id: of this process.
        lease_s: how long it counts as alive after :meth:`announce`.
    """

    def __init__(self, client: Redis, keys: Keys, server_id: str, lease_s: float) -> None:
        self.server_id = server_id
        self.lease_s = lease_s
        self._client = client
        self._keys = keys
        self._lease_ms = max(1, round(lease_s * 1000))

    async def announce(self) -> None:
        """Say that this process lives."""
        await self._client.set(self._keys.alive(self.server_id), b"", px=self._lease_ms)

    async def live(self, server_id: str) -> bool:
        """Whether a process lives, as far as Redis knows."""
        return bool(await self._client.exists(self._keys.alive(server_id)))

    async def ask(self, server_id: str, wish: Wish, document_id: str) -> None:
        """Ask a process for something. It may not get to hear of it: ask again until it has happened."""
        requests = self._keys.requests(server_id)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(requests, f"{wish.value} {document_id}")
            pipeline.pexpire(requests, self._lease_ms)
            await pipeline.execute()

    async def asked(self) -> Sequence[tuple[Wish, str]]:
        """What others want of this process since the last call: wishes and ids of documents."""
        requests = cast(list[bytes] | None, await self._client.lpop(self._keys.requests(self.server_id), MAX_REQUESTS))
        return [asked for request in requests or () if (asked := read_request(request))]


def read_request(request: bytes) -> tuple[Wish, str] | None:
    """A wish, and the id of a document. None for what is neither."""
    wish, _, document_id = request.decode(errors="replace").partition(" ")
    try:
        return Wish(wish), document_id
    except ValueError:
        logger.warning("a request of another server was refused")
        return None


class Absence:
    """How long a process has shown no sign of life.

    Its key may also be missing because Redis was away for longer than the key lives. Then the process announces itself
    as soon as Redis is back, so it counts as dead only when the key stays away.

    Args:
        limit_s: for how long.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def lasts(self, alive: bool) -> bool:
        """Whether the process counts as dead, given what was just seen of it."""
        if alive:
            self._since = None
            return False
        self._since = monotonic() if self._since is None else self._since
        return monotonic() - self._since >= self._limit_s
