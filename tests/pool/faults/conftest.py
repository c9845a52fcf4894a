"""A Redis, workers and callers for one test; what may go wrong with them is up to it."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.fingerprint import checkpoint_id
from models.diffusion.job import RenderJob
from server.pool.base import DiffusionPool
from server.pool.connection import connect
from server.pool.local import LocalPool
from server.pool.queue.keys import Keys
from server.pool.redis.pool import RedisPool
from tests.pool.faults.callers import EMPTY_PROMPT_SEED, Call, MakeCall, QuietRun
from tests.pool.faults.fleet import MAX_BATCH, Fleet
from tests.pool.faults.forks import do_the_imports
from tests.pool.faults.line import Line
from tests.pool.faults.servers import NAMESPACE, SHORT_LEASE_S, OpenPool, started_pool
from tests.redis_server import RedisServer
from tests.tiny_diffusion import HIDDEN_SIZE, QUERIES, make_random_diffusion, random_states

# A worker that is only slow, because the machine is, must not count as lost too often.
MAX_TRIES = 1000


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of one as a worker reads."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_random_diffusion(folder, hidden_size=HIDDEN_SIZE)
    (folder / "config.json").write_text(json.dumps({"num_dream_queries": QUERIES}))
    return folder


@pytest_asyncio.fixture(scope="session")
async def quiet(checkpoint: Path) -> AsyncIterator[QuietRun]:
    pool = LocalPool(DiffusionDecoder.from_pretrained(checkpoint / "diffusion"), max_batch=1)
    pool.start(random_states(EMPTY_PROMPT_SEED))
    yield QuietRun(pool)
    await pool.close(drain_s=0)


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """It has all that it ever confirmed when it is started again, even after a crash."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
async def line(own_redis_server: RedisServer, checkpoint: Path) -> AsyncIterator[Line]:
    async with connect(own_redis_server.url) as client:
        yield Line(client, Keys(NAMESPACE, checkpoint_id(checkpoint / "diffusion")))


@pytest.fixture(scope="session")
def _forks() -> None:
    do_the_imports()


@pytest.fixture
async def fleet(_forks: None, own_redis_server: RedisServer, checkpoint: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    settings = {
        "REDIS__NAMESPACE": NAMESPACE,
        "REDIS__LEASE_S": SHORT_LEASE_S,
        "WORKER__MAX_TRIES": MAX_TRIES,
        "DIFFUSION__MAX_BATCH": MAX_BATCH,
    }
    fleet = Fleet(own_redis_server.url, checkpoint, tmp_path, settings)
    yield fleet
    await fleet.close()


@pytest.fixture
async def open_pool(own_redis_server: RedisServer, checkpoint: Path) -> AsyncIterator[OpenPool]:
    """Opens the pool of one server, which may reach Redis by another URL."""
    pools: list[RedisPool] = []

    async def open_one(*, url: str = own_redis_server.url, **settings: float) -> RedisPool:
        pools.append(await started_pool(url, checkpoint, **settings))
        return pools[-1]

    yield open_one
    for pool in pools:
        await pool.close()


@pytest.fixture
async def pool(open_pool: OpenPool) -> RedisPool:
    return await open_pool()


@pytest.fixture
async def call() -> AsyncIterator[MakeCall]:
    """Asks a pool for a picture."""
    calls: list[Call] = []

    def make(pool: DiffusionPool, job: RenderJob) -> Call:
        calls.append(Call(pool, job))
        return calls[-1]

    yield make
    for each in calls:
        await each.leave()
