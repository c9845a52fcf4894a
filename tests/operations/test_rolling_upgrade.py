"""Releases side by side: whoever cannot read a job never sees it, and no answer loses a picture by that."""

import asyncio
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.diffusion.fingerprint import checkpoint_id
from server.pool.wire import WIRE_VERSION
from tests.api.serving import NO_AUTH
from tests.operations.gateway import PATIENCE_S, eventually
from tests.operations.listening import Listener, listening, numbers
from tests.operations.release import illustrated, storyteller
from tests.operations.upstreams import upstream
from tests.pool.deployment import Deployment
from tests.pool.rendering import picture, same_picture
from tests.redis_server import HOST, RedisServer, free_port
from tests.scripted.script import Gate
from tests.tiny_diffusion import make_random_diffusion, make_render_job, random_decoder

OLD = WIRE_VERSION - 1
QUERIES, HIDDEN_SIZE = 4, 8
"""Of the scripted language model."""
STORY = {"input": "Tell me.", "stream": True, "store": True, "images": {"steps": 3, "size": "32x32"}}
PATH = "/v1/interleaved"
LEASE_S = 60.0  # so that none runs out, however slow this machine is


@dataclass(frozen=True)
class Old:
    """A process of the release before.

    Attributes:
        process: that was started.
        client: of its HTTP port.
    """

    process: Process
    client: httpx.AsyncClient

    def go_on(self) -> None:
        """Let the story go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def stop(self) -> int:
        """Its exit code, after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def pictures(self) -> int:
        """That it has drawn, if it is a worker. It has let go of no job otherwise."""
        families = text_string_to_metric_families((await self.client.get("/metrics")).text)
        ended = next(family for family in families if family.name == "dreamserve_worker_jobs_ended")
        assert {sample.labels["outcome"] for sample in ended.samples if sample.value} <= {"completed"}
        return int(sum(sample.value for sample in ended.samples if sample.name.endswith("_total")))


@asynccontextmanager
async def old(role: Literal["server", "worker"], log: Path, **settings: dict[str, Any]) -> AsyncIterator[Old]:
    """A server or a worker of the release before, which is loading. It is killed if it is still there at the end."""
    port = free_port()
    settings = {**settings, role: {**settings.get(role, {}), "port": port}}
    variables = {
        f"DREAMSERVE_{group}__{name}".upper(): str(value)
        for group, chosen in settings.items()
        for name, value in chosen.items()
    }
    command = (sys.executable, "-m", "tests.operations.release", str(OLD), role)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, stdin=PIPE, stdout=output, stderr=output
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=PATIENCE_S) as client:
            yield Old(process, client)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As much of one as is not scripted."""
    make_random_diffusion(tmp_path, hidden_size=HIDDEN_SIZE)
    (tmp_path / "config.json").write_text(json.dumps({"num_dream_queries": QUERIES}))
    return tmp_path


def workers(checkpoint: Path, url: str, namespace: str) -> Deployment:
    """Of this release, for a scripted language model."""
    decoder = random_decoder(hidden_size=HIDDEN_SIZE)
    deployment = Deployment(url, namespace, decoder, checkpoint_id(checkpoint / "diffusion"))
    deployment.limits = replace(deployment.limits, states_shape=(QUERIES, HIDDEN_SIZE))
    return deployment


async def readiness(client: httpx.AsyncClient) -> int:
    return (await client.get("/health/ready")).status_code


def kinds(listener: Listener) -> list[str]:
    """Of the events so far."""
    return [event.event for event in listener.events]


def assert_whole(listener: Listener) -> None:
    """It has heard both pictures, all of the text, and no gap."""
    assert numbers(listener.events) == list(range(len(listener.events)))
    assert kinds(listener).count("image.completed") == 2
    assert listener.text == "Once upon a time."
    assert kinds(listener)[-1] == "document.completed"


async def test_an_upgrade_to_another_version_of_the_wire_loses_no_answer(
    redis_server: RedisServer, checkpoint: Path
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "redis": {"url": redis_server.url, "namespace": uuid.uuid4().hex, "lease_s": LEASE_S},
        "model": {"path": checkpoint, "served_name": "scripted"},
        "auth": NO_AUTH,
    }
    gate = Gate()
    gate.open()
    engine = storyteller(gate)
    async with (
        old("worker", checkpoint / "worker.log", **settings) as old_worker,
        old("server", checkpoint / "server.log", server={"shutdown_grace_s": 600}, **settings) as old_server,
        upstream(engine, illustrated(engine), **settings) as new_server,
        workers(checkpoint, redis_server.url, settings["redis"]["namespace"]) as new_workers,
        httpx.AsyncClient(base_url=new_server.address.url, timeout=PATIENCE_S) as new,
        httpx.AsyncClient(base_url=new_server.address.ops_url) as new_ops,
    ):
        await eventually(lambda: readiness(old_server.client), 200)
        async with listening(old_server.client, "POST", PATH, json=STORY) as told_by_old:
            await told_by_old.hear(lambda: "image.completed" in kinds(told_by_old))

            # Old workers are none to a new server: a gateway sends it nothing before it has one that it understands.
            without_new_workers = await readiness(new_ops)
            await new_workers.worker(lease_s=LEASE_S)
            await eventually(lambda: readiness(new_ops), 200)
            async with listening(new, "POST", PATH, json=STORY) as told_by_new:
                await told_by_new.hear_all()

            # What an old server has begun, it ends, with the worker that it began with.
            stopping = asyncio.create_task(old_server.stop())
            await eventually(lambda: readiness(old_server.client), 503)
            old_server.go_on()
            await told_by_old.hear_all()
        exit_codes = [await stopping]
        drawn_by_old = await old_worker.pictures()
        exit_codes.append(await old_worker.stop())

        # Stored answers are nobody's in particular.
        path = f"{PATH}/{told_by_old.events[0].json()['id']}"
        async with listening(new, "GET", path, params={"stream": True}) as told_again:
            await told_again.hear_all()
        with_new_workers = await readiness(new_ops)

    assert_whole(told_by_old)
    assert_whole(told_by_new)
    assert [event.data for event in told_again.events] == [event.data for event in told_by_old.events]
    assert drawn_by_old == 2
    assert exit_codes == [0, 0]
    assert (without_new_workers, with_new_workers) == (503, 200)


async def test_releases_that_draw_with_other_weights_do_not_mix_their_pictures(redis_server: RedisServer) -> None:
    namespace, job = uuid.uuid4().hex, make_render_job("a")
    alone, side_by_side = [], []
    decoders = {"0" * 16: random_decoder(seed=0), "1" * 16: random_decoder(seed=1)}
    for weights, decoder in decoders.items():
        async with Deployment(redis_server.url, uuid.uuid4().hex, decoder, weights) as deployment:
            await deployment.worker()
            alone.append(await picture(await deployment.server(), job))
    async with AsyncExitStack() as stack:
        servers = []
        for weights, decoder in decoders.items():
            deployment = await stack.enter_async_context(Deployment(redis_server.url, namespace, decoder, weights))
            await deployment.worker()
            servers.append(await deployment.server())
        side_by_side = await asyncio.gather(*(picture(server, job) for server in servers))

    assert not same_picture(*alone)
    assert all(map(same_picture, alone, side_by_side))


@pytest.mark.parametrize(
    ("added", "removed"), [({"a-later-release": "says more"}, ()), ({}, ("origin",))], ids=["newer", "older"]
)
async def test_what_lies_beside_a_job_may_differ_between_releases_of_one_wire(
    redis_server: RedisServer, added: dict[str, str], removed: tuple[str, ...]
) -> None:
    """Its body may not: a change of that is another version of the wire."""
    async with Deployment(redis_server.url, uuid.uuid4().hex, random_decoder()) as deployment:
        server, job = await deployment.server(), make_render_job("a")
        drawing = asyncio.create_task(picture(server, job))
        key = deployment.keys.job(job.id)

        async def in_line() -> bool:
            return bool(await deployment.client.exists(key))

        await eventually(in_line, True)
        if added:
            await deployment.client.hset(key, mapping=added)
        if removed:
            assert await deployment.client.hdel(key, *removed) == len(removed)
        await deployment.worker()
        await drawing
        assert await deployment.dead_letters() == []
