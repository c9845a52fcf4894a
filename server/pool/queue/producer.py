"""The side of a server: puts jobs in line, keeps them open, and hears what becomes of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from models.diffusion.job import Priority
from server.pool.queue.keys import Keys
from server.pool.queue.scripts import Argument, Scripts

STATES_TTL_S = 3600
READ_COUNT = 100
DEADLINE_GRACE_S = 1.0  # so that its server, which cancels a job at its deadline, still finds who holds it
FROM_THE_START = "0"


class DuplicateJobError(ValueError):
    """Another server has an open job with this id."""


class StatesMissingError(LookupError):
    """Redis does not hold the shared states that a job refers to."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job for the queue.

    Attributes:
        job_id: unique.
        priority: which jobs it goes before.
        body: for the worker.
        cost: denoising steps, in steps of a picture of the checkpoint's own size.
        states: digest of the shared states that the body refers to.
    """

    job_id: str
    priority: Priority
    body: bytes = field(repr=False)
    cost: float
    states: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What renewing showed.

    Attributes:
        ended: ids of jobs that have an outcome.
        gone: ids of jobs of which Redis knows nothing.
    """

    ended: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Census:
    """How busy the pool is.

    Attributes:
        workers: announcements of the living ones.
        waiting: jobs that no worker holds.
        cost: of those, see :class:`Submission`.
        held: jobs that workers hold.
    """

    workers: tuple[bytes, ...] = field(repr=False)
    waiting: int
    cost: float
    held: int


class Producer:
    """What a server does with the queue.

    Args:
        client: of the Redis.
        blocking: a connection of its own for reads that wait.
        keys: of the pool.
        server_id: unique for each server process.
        lease_s: how long jobs outlive a server that does not renew them.
        replies_ttl_s: how long the reply stream does.
    """

    def __init__(
        self,
        client: Redis,
        blocking: Redis,
        keys: Keys,
        server_id: str,
        *,
        lease_s: float,
        replies_ttl_s: float = 120.0,
    ) -> None:
        self._client = client
        self._blocking = blocking
        self._keys = keys
        self._server_id = server_id
        self._scripts = Scripts(client, keys)
        self._lease_ms = milliseconds(lease_s)
        self._replies_ttl_ms = milliseconds(replies_ttl_s)
        self._last_reply = FROM_THE_START

    async def share_states(self, digest: str, data: bytes) -> None:
        """Store states that jobs will refer to."""
        await self._client.set(self._keys.states(digest), data, ex=STATES_TTL_S)

    async def submit(self, submission: Submission, time_left_s: float | None, origin: bytes = b"") -> int | None:
        """Put a job in line. May be repeated.

        Args:
            submission: the job.
            time_left_s: until its deadline.
            origin: for the worker; it lies beside the body.

        Returns:
            Jobs at work and in line before it; None if it has ended already.

        Raises:
            DuplicateJobError: its id is another server's.
            StatesMissingError: see :meth:`share_states`.
            RedisError: Redis cannot be reached, or is full.
        """
        status, ahead = await self._scripts.run(
            "submit",
            [
                submission.job_id,
                self._server_id,
                submission.priority,
                submission.body,
                submission.cost,
                self._job_ttl(time_left_s),
                submission.states or "",
                STATES_TTL_S * 1000,
                origin,
            ],
        )
        match status:
            case b"queued":
                return int(ahead)
            case b"ended":
                return None
            case b"states":
                raise StatesMissingError(f"the states {submission.states} are not there")
        raise DuplicateJobError(f"job {submission.job_id} is already running")

    async def keep(self, time_left_s: Mapping[str, float | None]) -> Kept:
        """Renew the lease on jobs and on the reply stream, which is made if there is none.

        Args:
            time_left_s: of each job, until its deadline.
        """
        arguments: list[Argument] = [self._server_id, self._replies_ttl_ms, self._last_reply]
        for job_id, left in time_left_s.items():
            arguments += [job_id, self._job_ttl(left)]
        made, ended, gone = await self._scripts.run("keep", arguments)
        if made:
            self._last_reply = FROM_THE_START
        return Kept(tuple(map(bytes.decode, ended)), tuple(map(bytes.decode, gone)))

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs that nobody wants any more; ids of other servers' jobs and unknown ones are ignored."""
        if job_ids:
            await self._scripts.run("cancel", [self._server_id, *job_ids])

    async def outcome(self, job_id: str) -> bytes | None:
        """What became of a job, to be asked once."""
        return cast(bytes | None, await self._client.getdel(self._keys.outcome(job_id)))

    async def replies(self, timeout_s: float) -> AsyncIterator[bytes]:
        """Messages that came since the last call; waits for them so long."""
        stream = self._keys.replies(self._server_id)
        found: Any = await self._blocking.xread({stream: self._last_reply}, READ_COUNT, milliseconds(timeout_s))
        for _, entries in found:
            for entry, fields in entries:
                self._last_reply = entry.decode()
                yield fields.get(b"m", b"")

    async def census(self) -> Census:
        """How busy the pool is."""
        workers, waiting, cost, held = await self._scripts.run("census", [])
        return Census(tuple(workers), int(waiting), float(cost), int(held))

    async def leave(self) -> None:
        """Delete the reply stream."""
        await self._client.delete(self._keys.replies(self._server_id))

    def _job_ttl(self, time_left_s: float | None) -> int:
        if time_left_s is None:
            return self._lease_ms
        return min(self._lease_ms, milliseconds(time_left_s + DEADLINE_GRACE_S))


def milliseconds(seconds: float) -> int:
    """At least one: Redis takes 0 for an error or for ever."""
    return max(1, round(seconds * 1000))
