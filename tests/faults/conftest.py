"""What the tests of failures share: one Redis, workers for each test, and one server process."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from models.diffusion.fingerprint import checkpoint_id
from server.llm.vllm_engine import VLLMEngine
from server.pool.connection import connect
from server.pool.queue.keys import Keys
from server.settings import DEFAULT_CHECKPOINT
from tests.faults.image_disk import ImageDisk
from tests.faults.server_process import ServerProcess, running_server
from tests.faults.stage import OpenStage, staged
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.forks import do_the_imports
from tests.pool.faults.line import Line
from tests.redis_server import RedisServer

NAMESPACE = "faults"
WORKER_LEASE_S = 3.0
# A server that has lost its lease puts its jobs in line again, after a third of this.
SERVER_LEASE_S = 6.0
PATIENCE_S = 3600.0


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """It has all that it ever confirmed when it is started again."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[Line]:
    async with connect(redis_server.url) as client:
        yield Line(client, Keys(NAMESPACE, checkpoint_id(DEFAULT_CHECKPOINT / "diffusion")))


@pytest.fixture(scope="session")
def _forks() -> None:
    do_the_imports()


@pytest.fixture
async def fleet(_forks: None, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers that draw one picture at a time."""
    settings = {"REDIS__NAMESPACE": NAMESPACE, "REDIS__LEASE_S": WORKER_LEASE_S, "DIFFUSION__MAX_BATCH": 1}
    fleet = Fleet(redis_server.url, DEFAULT_CHECKPOINT, tmp_path, settings)
    yield fleet
    await fleet.close()


@pytest.fixture(scope="session")
def redis_settings(redis_server: RedisServer) -> dict[str, Any]:
    """The group ``redis`` of the settings of all servers."""
    return {"url": redis_server.url, "namespace": NAMESPACE, "lease_s": SERVER_LEASE_S, "patience_s": PATIENCE_S}


@pytest.fixture(scope="session")
def server_settings(redis_settings: dict[str, Any]) -> dict[str, object]:
    """What all server processes have in common."""
    return {f"REDIS__{name.upper()}": value for name, value in redis_settings.items()}


@pytest.fixture(scope="session")
def image_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageDisk]:
    """Where the server process keeps pictures."""
    disk = ImageDisk(tmp_path_factory.mktemp("images"))
    yield disk
    disk.close()


@pytest_asyncio.fixture(scope="session")
async def server(
    server_settings: dict[str, object], image_disk: ImageDisk, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    """The server process of all tests that leave it alive."""
    settings = {**server_settings, "FILES__TARGET": f"file://{image_disk.folder}"}
    async with running_server(tmp_path_factory.mktemp("server") / "server.log", **settings) as server:
        yield server


@pytest.fixture
def open_stage(engine: VLLMEngine, fleet: Fleet, line: Line, redis_settings: dict[str, Any]) -> OpenStage:
    """Opens the service in this process, with settings of its own."""
    return lambda **settings: staged(engine, fleet.brake, line, **{"redis": redis_settings, **settings})
