"""What a picture costs Redis: each command that servers and workers send for it."""

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from importlib import resources

import pytest

from server.pool import queue
from server.pool.wire import states_digest
from tests.pool.deployment import EMPTY_PROMPT, Deployment
from tests.pool.rendering import eventually, rendered
from tests.redis_server import HOST, RedisServer
from tests.tiny_diffusion import make_render_job, random_decoder

LINE_LIMIT = 2**20
LUA = resources.files(queue) / "lua"
SHARED = (LUA / "_shared.lua").read_text()
SCRIPTS = {
    hashlib.sha1((SHARED + path.read_text()).encode()).hexdigest(): path.name.removesuffix(".lua")  # noqa: S324
    for path in LUA.iterdir()
}


@pytest.fixture
async def alone(own_redis_server: RedisServer, namespace: str) -> AsyncIterator[Deployment]:
    """The only one on its Redis."""
    async with Deployment(own_redis_server.url, namespace, random_decoder()) as deployment:
        yield deployment


async def sent(deployment: Deployment, work: Awaitable[object]) -> list[str]:
    """What Redis is sent while something is done: commands with their arguments, and scripts by their names."""
    port = int(deployment.url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection(HOST, port, limit=LINE_LIMIT)
    writer.write(b"MONITOR\r\n")
    await reader.readline()
    await work
    await deployment.client.echo("that is all")
    commands = []
    while '"that is all"' not in (line := (await reader.readline()).decode()):
        if " lua] " not in line:
            command = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
            commands.append(SCRIPTS[command[1]] if command[0].upper() == "EVALSHA" else " ".join(command))
    writer.close()
    return commands


def kinds(commands: list[str]) -> Counter[str]:
    return Counter(command.partition(" ")[0] for command in commands)


@pytest.mark.parametrize("steps", [10, 100])
async def test_the_commands_of_a_picture_do_not_grow_with_its_steps(alone: Deployment, steps: int) -> None:
    await alone.worker()
    pool = await alone.server()
    await rendered(pool, make_render_job("warm-up"))
    began = time.monotonic()
    counts = kinds(await sent(alone, rendered(pool, make_render_job("a", steps=steps))))
    seconds = time.monotonic() - began
    of_a_picture = {
        "submit": 1,
        "census": 1,
        "take": 3,
        "XREADGROUP": 2,
        "XADD": 8,
        "XREAD": 10,
        "finish": 1,
        "GETDEL": 1,
    }
    by_the_clock = {"take": 1, "XREADGROUP": 1, "XREAD": 1, "renew": 1, "keep": 1, "PING": 1, "CLIENT": 1}
    assert sum(of_a_picture.values()) <= 30
    for kind, count in counts.items():
        assert count <= of_a_picture.get(kind, 0) + by_the_clock.get(kind, 0) * (1 + seconds), kind


async def test_the_states_of_the_empty_prompt_are_sent_once_and_fetched_once(alone: Deployment) -> None:
    async def draw() -> None:
        await alone.worker()
        for pool in (await alone.server(), await alone.server()):
            for n in range(2):
                await rendered(pool, make_render_job(str(n)))

    key = alone.keys.states(states_digest(EMPTY_PROMPT))
    told = [command.split()[0] for command in await sent(alone, draw()) if command.split()[1:2] == [key]]
    assert told == ["SET", "GET"]


async def test_a_picture_costs_redis_no_memory_that_stays(alone: Deployment) -> None:
    await alone.worker()
    pool = await alone.server(lease_s=0.1)
    await rendered(pool, make_render_job("warm-up"))
    await eventually(alone.is_clean)
    names = await alone.names()
    for n in range(5):
        await rendered(pool, make_render_job(str(n)))
    assert await alone.names() == names
