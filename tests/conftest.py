"""What the whole suite shares: one real vLLM, started once, on the embedded checkpoint, and one real Redis."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import torch

from server.settings import DEFAULT_CHECKPOINT, LLMSettings
from tests.redis_server import RedisServer
from tests.shared_engine import BLOCK_SIZE, MAX_MODEL_LEN, MAX_NUM_SEQS, TOKEN_BUDGET

if TYPE_CHECKING:
    from server.llm.vllm_engine import VLLMEngine


def pytest_configure() -> None:
    # The models of the tests are too small to gain by more threads, and where cores are busy threads wait for threads.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # vLLM forgets the metrics of an engine when another one is started in its process. So what starts engines of its
    # own comes before the shared one.
    items.sort(key=lambda item: "/parity/" not in item.nodeid and "/test_lifecycle" not in item.nodeid)


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return DEFAULT_CHECKPOINT


@pytest.fixture(scope="session")
def environment_before_start() -> dict[str, str]:
    return dict(os.environ)


@pytest_asyncio.fixture(scope="session")
async def engine(checkpoint: Path, environment_before_start: dict[str, str]) -> AsyncIterator["VLLMEngine"]:
    """In float32, so that it can be compared with the Hugging Face model."""
    # Here, because tests that need no vLLM should not wait for its imports.
    from server.llm.vllm_engine import VLLMEngine

    settings = LLMSettings(
        dtype="float32",
        max_model_len=MAX_MODEL_LEN,
        kv_cache_gib=0.25,
        block_size=BLOCK_SIZE,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=TOKEN_BUDGET,
    )
    engine = await VLLMEngine.start(checkpoint, settings)
    yield engine
    await engine.shutdown()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """No test stops it, freezes it or looks beyond its own namespace."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """For one test, which may do to it what it likes."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """Of the shared Redis, that no other test uses."""
    return f"test-{uuid.uuid4().hex}"
