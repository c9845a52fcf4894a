"""Redis commands for each picture, as a Redis sees them.

A server and a worker draw pictures of several lengths, one at a time and a full batch at a time, and MONITOR tells of
every command: those that clients send, and those that the scripts among them call. Pictures have no previews. What does
not come with pictures is listed by itself: renewals, the polls of a worker that has room, new connections.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from redis.asyncio import Redis

from load_tests.pool.bench import Bench
from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.pools import redis_pool
from load_tests.pool.traffic import MAX_BATCH, draw, make_job
from load_tests.pool.unet_calls import UNetCalls
from load_tests.results import Cell
from server.pool.base import DiffusionPool
from server.tasks import end

CASES = ((10, 1), (20, 1), (100, 1), (100, MAX_BATCH))
GUIDANCE_SCALE = 3.5
SETTLE_S = 0.1
ROOM = 5
"""Place of the room for jobs in ``EVALSHA <hash> 1 <prefix> <worker> <room> …`` of the script that takes jobs."""

NOT_OF_PICTURES = {"EVALSHA renew", "EVALSHA keep", "EVALSHA sweep", "poll", "PING", "CLIENT"}
SENT = "sent by clients"
IN_SCRIPTS = "and called in scripts"

Case = tuple[int, int]
"""Steps of a picture, and how many pictures are drawn together."""


async def measure(bench: Bench) -> None:
    """Count, and report."""
    calls = UNetCalls(bench.folder / "commands-calls")
    decoder = random_decoder(SMALL, bench.decoder.device, calls)
    counts: dict[Case, Counter[str]] = {}
    seconds = 0.0
    loop = asyncio.get_running_loop()
    async with redis_pool(bench.redis_url, "commands", decoder, SMALL, calls.path) as pool:
        await _draw(pool, decoder.image_size, "first", steps=2, together=1)
        for steps, together in CASES:
            started = loop.time()
            async with _monitored(bench.redis_url) as lines:
                for number in range(bench.scale.pictures):
                    await _draw(pool, decoder.image_size, f"{steps}-{together}-{number}", steps, together)
                await asyncio.sleep(SETTLE_S)
            seconds += loop.time() - started
            counts[steps, together] = Counter(_names(lines))
    tables = {case: _of_a_picture(counted, bench.scale.pictures * case[1]) for case, counted in counts.items()}
    bench.results.table("Redis commands of a picture", *_table(tables))
    others = sum(counts.values(), Counter[str]())
    rates = ", ".join(f"{name} {others[name] / seconds:.1f}" for name in sorted(NOT_OF_PICTURES & others.keys()))
    print(f"other commands of one server and one worker, a second: {rates} (a poll is two commands)")
    bench.results.at_most("redis_commands_per_picture", max(table[SENT] for table in tables.values()), 30)
    bench.results.at_most("redis_commands_100_to_10_steps", tables[100, 1][SENT] / tables[10, 1][SENT], 1.1)


async def _draw(pool: DiffusionPool, side: int, id: str, steps: int, together: int) -> None:
    async with asyncio.TaskGroup() as drawing:
        for number in range(together):
            job = make_job(SMALL, side, f"{id}-{number}", steps=steps, guidance_scale=GUIDANCE_SCALE)
            drawing.create_task(draw(pool, job))


@asynccontextmanager
async def _monitored(url: str) -> AsyncIterator[list[dict[str, Any]]]:
    """The commands of all others, as they come."""
    lines: list[dict[str, Any]] = []
    async with Redis.from_url(url) as client, client.monitor() as monitor:

        async def listen() -> None:
            while True:
                lines.append(await monitor.next_command())

        listening = asyncio.create_task(listen())
        try:
            yield lines
        finally:
            await end([listening])


def _names(lines: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """One name for each command: its own, with that of the script that it runs.

    What scripts call goes by one name for all, and is left out where the script has nothing to do with a picture.
    """
    scripts = _script_names()
    waited = True  # whether the last that the worker did was to wait for a job, as at the start
    name = ""
    for line in lines:
        if line["client_type"] == "lua":
            if name not in NOT_OF_PICTURES:
                yield IN_SCRIPTS
            continue
        words = line["command"].split(" ", ROOM + 1)
        name = words[0].upper()
        if name == "EVALSHA":
            name = f"EVALSHA {scripts[words[1]]}"
        if name == "EVALSHA take":
            # A worker that waited in vain looks for more jobs; one that was handed a job has room for none beside it.
            in_vain, waited = waited and words[ROOM] != "0", False
            name = "poll" if in_vain else name
        waited = waited or name == "XREADGROUP"
        yield name


def _script_names() -> dict[str, str]:
    """Names of the pool's scripts by the hashes that Redis knows them by."""
    folder = resources.files("server.pool.queue") / "lua"
    sources = {file.name.removesuffix(".lua"): file.read_text() for file in folder.iterdir()}
    shared = sources.pop("_shared")
    return {
        hashlib.sha1((shared + text).encode(), usedforsecurity=False).hexdigest(): name
        for name, text in sources.items()
    }


def _of_a_picture(counted: Mapping[str, int], pictures: int) -> dict[str, float]:
    """Commands for each picture by name; then the sum of those that clients send, and what scripts call."""
    polls = {"XREADGROUP": counted["poll"]}
    names = sorted(counted.keys() - NOT_OF_PICTURES - {IN_SCRIPTS})
    table = {name: (counted[name] - polls.get(name, 0)) / pictures for name in names}
    return {**table, SENT: sum(table.values()), IN_SCRIPTS: counted[IN_SCRIPTS] / pictures}


def _table(tables: Mapping[Case, Mapping[str, float]]) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    """Columns, one for each case, and rows, one for each command; the sums last."""
    heads = [f"{steps} steps, {together} at a time" for steps, together in tables]
    names = dict.fromkeys(name for table in tables.values() for name in table if name not in (SENT, IN_SCRIPTS))
    return ("command", *heads), [
        (name, *(table.get(name, 0.0) for table in tables.values())) for name in (*names, SENT, IN_SCRIPTS)
    ]
