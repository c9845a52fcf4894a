"""What lies in Redis, seen from outside."""

from redis.asyncio import Redis

from server.pool.queue.consumer import Consumer
from server.pool.queue.keys import GROUP, Keys
from tests.pool.rendering import eventually

PRIORITIES = ("high", "normal")
MIB = 2**20
FILLER = "something-else"
LASTS_FOR_EVER = -1


class Line:
    """The line of jobs of one pool, which has its Redis to itself.

    Args:
        client: of the Redis.
        keys: of the pool.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self._keys = keys

    async def held(self) -> int:
        """How many jobs the workers hold."""
        return sum([await self._pending(self._keys.jobs(priority)) for priority in PRIORITIES])

    async def until_held(self, jobs: int) -> None:
        """Wait until the workers hold so many, or more."""

        async def so_many() -> bool:
            return await self.held() >= jobs

        await eventually(so_many)

    async def until_taken_by_a_ghost(self, job_id: str) -> None:
        """Wait until a job is there, and take it as a worker that never renews its lease."""
        ghost = Consumer(self.client, self.client, self._keys, "ghost", lease_s=1.0)

        async def taken() -> bool:
            return [job.id for job in await ghost.take(1, reclaim=False)] == [job_id]

        await eventually(taken)

    async def until_all_leases_are_out(self, lease_s: float) -> None:
        """Wait until no worker has renewed its lease on any job for so long."""

        async def all_out() -> bool:
            held = [
                entry
                for priority in PRIORITIES
                for entry in await self.client.xpending_range(self._keys.jobs(priority), GROUP, "-", "+", 1000)
            ]
            return min(entry["time_since_delivered"] for entry in held) > 1000 * lease_s

        await eventually(all_out)

    async def open_jobs(self) -> list[str]:
        """Ids of the jobs that have not ended."""
        keys = [key.decode() async for key in self.client.scan_iter(self._keys.job("*"))]
        return [key.removeprefix(self._keys.job("")) for key in keys]

    async def tries(self, job_id: str) -> int:
        """How often a job that no worker holds was tried."""
        return int(await self.client.hget(self._keys.job(job_id), "tries"))

    async def workers(self) -> int:
        """How many workers have said that they are there."""
        return len(await self.client.zrange(f"{self._keys.prefix}workers", 0, -1))

    async def dead_letters(self) -> list[str]:
        """The jobs that were given up."""
        return [fields[b"job"].decode() for _, fields in await self.client.xrange(self._keys.dead)]

    async def fill(self) -> None:
        """Something else takes more than the memory that Redis may use: it refuses whatever needs some."""
        await self.client.set(FILLER, bytes(16 * MIB))
        await self.client.config_set("maxmemory", 12 * MIB)

    async def make_room(self) -> None:
        """That has gone."""
        await self.client.delete(FILLER)

    async def until_empty(self) -> None:
        """Wait until nothing is left of any job, and see that the rest will go by itself."""

        async def nothing_left() -> bool:
            jobs = [await self.client.xlen(self._keys.jobs(priority)) for priority in PRIORITIES]
            outcomes = [key async for key in self.client.scan_iter(self._keys.outcome("*"))]
            return not any(jobs) and not outcomes and not await self.open_jobs()

        await eventually(nothing_left)
        lifetimes = {key: await self.client.pttl(key) async for key in self.client.scan_iter()}
        lasting = [key for key, lifetime in lifetimes.items() if lifetime == LASTS_FOR_EVER]
        assert not lasting, f"for ever in Redis: {lasting}"

    async def _pending(self, stream: str) -> int:
        # There is no group before the first worker has come.
        groups = await self.client.xinfo_groups(stream) if await self.client.exists(stream) else []
        return sum(group["pending"] for group in groups)
