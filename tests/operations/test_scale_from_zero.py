"""Pictures asked for while there is no worker wait for the first one, where workers are started when there is work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.backend import Backend, DrawingDefaults
from server.llm.prompt import PromptBuilder
from server.settings import Settings
from tests.api.serving import Running, in_memory, scripted_engine
from tests.pool.deployment import Deployment
from tests.pool.rendering import eventually
from tests.redis_server import RedisServer
from tests.scripted.script import DREAM, EOS
from tests.tiny_diffusion import random_decoder, random_states

DRAWING = DrawingDefaults(32, 32, size_multiple=16, steps=4, guidance_scale=3.0, scheduler="ddpm")
REQUEST = {"input": "A cat.", "images": {"max": 1}}


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    """A Redis, and no worker."""
    with RedisServer() as redis:
        async with Deployment(redis.url, f"test-{uuid4().hex}", random_decoder()) as deployment:
            yield deployment


@asynccontextmanager
async def server_of(deployment: Deployment, url: str | None = None, **admission: Any) -> AsyncIterator[Running]:
    """A server of a deployment; its model draws one picture in each document."""
    engine = scripted_engine(["Look: ", DREAM], [EOS], dreams=[random_states(0), random_states(1)])
    pool = await deployment.server(url)

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, PromptBuilder(engine), pool, DRAWING, draws_here=False)

    async with in_memory(engine, open_backend=open_backend, admission=admission) as running:
        await running.ready()
        yield running


async def gauge(server: Running, name: str) -> float:
    """What the scaler reads."""
    text = (await server.client.get("/metrics")).text
    [family] = [family for family in text_string_to_metric_families(text) if family.name == name]
    [sample] = family.samples
    return sample.value


async def test_a_picture_waits_for_the_first_worker_and_the_scaler_can_see_it_wait(deployment: Deployment) -> None:
    async with server_of(deployment, wait_for_workers=True) as server, asyncio.TaskGroup() as callers:

        async def a_job_waits() -> bool:
            return await gauge(server, "dreamserve_pool_jobs_waiting") == 1

        ready = await server.client.get("/health/ready")
        answering = callers.create_task(server.client.post("/v1/interleaved", json=REQUEST))
        await eventually(a_job_waits)
        workers = await gauge(server, "dreamserve_pool_workers_alive")
        told_as_ready = await gauge(server, "dreamserve_ready")
        await deployment.worker()
    answer = answering.result().json()

    assert ready.status_code == 200
    assert told_as_ready == 1
    assert workers == 0
    assert [part["type"] for part in answer["parts"]] == ["text", "image"]
    assert answer["finish_reason"] == "stop"


async def test_by_default_a_server_without_workers_is_not_ready_and_takes_no_pictures(deployment: Deployment) -> None:
    async with server_of(deployment) as server:
        answers = [await server.client.get("/health/ready"), await server.client.post("/v1/interleaved", json=REQUEST)]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert [answer.json()["error"]["code"] for answer in answers] == ["server_no_workers"] * 2


async def test_jobs_that_no_redis_would_keep_are_not_waited_for(deployment: Deployment) -> None:
    with RedisServer() as gone:
        nowhere = gone.url
    async with server_of(deployment, nowhere, wait_for_workers=True) as server:
        answers = [await server.client.get("/health/ready"), await server.client.post("/v1/interleaved", json=REQUEST)]
        told_as_ready = await gauge(server, "dreamserve_ready")

    assert told_as_ready == 0, "the scaler takes no word from a server that is not"
    assert [answer.json()["error"]["code"] for answer in answers] == ["server_no_workers"] * 2
