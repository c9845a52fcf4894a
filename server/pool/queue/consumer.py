"""The side of a worker: takes jobs, keeps its leases on them, and ends them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from server.pool.queue.keys import GROUP, Keys
from server.pool.queue.producer import milliseconds
from server.pool.queue.scripts import Argument, Scripts

PRIORITIES = ("high", "normal")
FORGET_AFTER_S = 600
REPLIES_LENGTH = 2000  # as in lua/_shared.lua


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job that this worker holds now.

    Attributes:
        id: of the job.
        tries: how often it was handed to a worker, this time included.
        server_id: whose it is.
        body: as the server wrote it, not checked yet.
        origin: likewise; empty if it wrote none.
        waited_s: in line, this time, by the clock of Redis.
    """

    id: str
    tries: int
    server_id: str
    body: bytes = field(repr=False)
    origin: bytes = field(default=b"", repr=False)
    waited_s: float = field(default=0.0, compare=False)


class Consumer:
    """What a worker does with the queue.

    Args:
        client: of the Redis.
        blocking: a connection of its own for reads that wait.
        keys: of the pool.
        worker_id: unique for each worker process.
        lease_s: how long this worker's jobs are its own without renewal.
        outcome_ttl_s: how long an outcome waits for its server.
    """

    def __init__(
        self,
        client: Redis,
        blocking: Redis,
        keys: Keys,
        worker_id: str,
        *,
        lease_s: float,
        outcome_ttl_s: float = 120.0,
    ) -> None:
        self._client = client
        self._blocking = blocking
        self._keys = keys
        self._worker_id = worker_id
        self._scripts = Scripts(client, keys)
        self._lease_ms = milliseconds(lease_s)
        self._outcome_ttl_ms = milliseconds(outcome_ttl_s)

    async def take(self, room: int, *, reclaim: bool, last_try: int = 0) -> list[TakenJob]:
        """Take jobs that wait.

        Args:
            room: jobs at most.
            reclaim: take those first whose worker did not renew its lease.
            last_try: the try that counts no sooner than :meth:`begin` says; 0: all count as soon as a job is taken.
        """
        return await self._take(room, reclaim, last_try, [])

    async def wait(self, timeout_s: float, *, last_try: int = 0) -> list[TakenJob]:
        """Take the next job that arrives, or return nothing after so long.

        At most one of each priority, so one more than was asked for if both come in the same instant.
        """
        streams: Any = {self._keys.jobs(priority): ">" for priority in PRIORITIES}
        try:
            found: Any = await self._blocking.xreadgroup(
                GROUP, self._worker_id, streams, count=1, block=milliseconds(timeout_s)
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            return await self._take(1, False, last_try, [])  # makes the groups
        claimed: list[Argument] = []
        for stream, entries in found:
            for entry, fields in entries:
                claimed += [stream.decode().removeprefix(self._keys.jobs("")), entry, fields.get(b"job", b"")]
        return await self._take(0, False, last_try, claimed) if claimed else []

    async def _take(self, room: int, reclaim: bool, last_try: int, claimed: list[Argument]) -> list[TakenJob]:
        lease_ms = self._lease_ms if reclaim else 0
        taken = await self._scripts.run("take", [self._worker_id, room, lease_ms, last_try, *claimed])
        return [
            TakenJob(id.decode(), int(tries), server.decode(), body, origin, max(0, int(waited_ms)) / 1000)
            for id, tries, server, body, origin, waited_ms in taken
        ]

    async def begin(self, job_id: str) -> bool:
        """Count a last try. False if this worker does not hold the job any more."""
        return bool(await self._scripts.run("begin", [self._worker_id, job_id]))

    async def renew(self, job_ids: Sequence[str], announcement: bytes) -> list[str]:
        """Renew the leases on these jobs, and the announcement of this worker.

        Returns:
            Ids of the jobs that are not this worker's any more.
        """
        lost = await self._scripts.run("renew", [self._worker_id, announcement, self._lease_ms, *job_ids])
        return [job_id.decode() for job_id in lost]

    async def tell(self, server_id: str, message: bytes) -> None:
        """Send a server a message that it may miss."""
        replies = self._keys.replies(server_id)
        await self._client.xadd(replies, {"m": message}, maxlen=REPLIES_LENGTH, nomkstream=True)

    async def finish(self, job_id: str, outcome: bytes, message: bytes, *, dead_letter: str = "") -> bool:
        """End a job.

        Args:
            job_id: of the job.
            outcome: for its server.
            message: tells the server that there is one.
            dead_letter: why the job goes to the dead-letter stream too, if it does.

        Returns:
            False if the job had ended before.
        """
        arguments: list[Argument] = [job_id, outcome, self._outcome_ttl_ms, message, self._worker_id, dead_letter]
        return bool(await self._scripts.run("finish", arguments))

    async def hand_back(self, job_id: str, *, counts: bool) -> bool:
        """Put a job back in line. False if this worker does not hold it any more.

        Args:
            job_id: of the job.
            counts: whether a try that is counted stays so.
        """
        return bool(await self._scripts.run("hand_back", [self._worker_id, job_id, int(counts)]))

    async def give_up(self, job_id: str) -> None:
        """Have the server of a job submit it again."""
        await self._scripts.run("give_up", [self._worker_id, job_id])

    async def states(self, digest: str) -> bytes | None:
        """States that jobs refer to."""
        return cast(bytes | None, await self._client.get(self._keys.states(digest)))

    async def forget_states(self, digest: str) -> None:
        """Have the servers share states again."""
        await self._client.delete(self._keys.states(digest))

    async def cancellations(self) -> AsyncIterator[str]:
        """Ids of jobs that are not wanted any more, as they are told. One that is missed shows at the next renewal."""
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self._keys.cancellations(self._worker_id))
            async for message in channel.listen():
                yield message["data"].decode(errors="replace")

    async def sweep(self) -> None:
        """Forget workers that went without a goodbye long ago."""
        await self._scripts.run("sweep", [milliseconds(FORGET_AFTER_S)])

    async def leave(self) -> None:
        """Say goodbye."""
        await self._scripts.run("leave", [self._worker_id])
