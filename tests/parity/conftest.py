"""What the parity tests share: the converted checkpoint, its models, and the report of differences."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.dreamllm.conversion import convert
from server.settings import LLMSettings
from tests.parity.converted import CHECKPOINT, Checkpoint
from tests.parity.difference_report import pytest_terminal_summary, report

if TYPE_CHECKING:
    from server.llm.vllm_engine import VLLMEngine

__all__ = ["pytest_terminal_summary", "report"]


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official checkpoint in our layout."""
    target = tmp_path_factory.mktemp("parity") / "converted"
    convert(CHECKPOINT, target)
    return target


@pytest.fixture(scope="session")
def model(converted: Path) -> DreamLLMForConditionalGeneration:
    """The Hugging Face model, float32."""
    loaded = AutoModelForImageTextToText.from_pretrained(converted, dtype=torch.float32)
    assert isinstance(loaded, DreamLLMForConditionalGeneration)
    return loaded.eval()


@pytest.fixture(scope="session")
def processor(converted: Path) -> DreamLLMProcessor:
    loaded = AutoProcessor.from_pretrained(converted)
    assert isinstance(loaded, DreamLLMProcessor)
    return loaded


@pytest.fixture(scope="session")
def checkpoint_only(converted: Path) -> Checkpoint:
    """What a prompt is built from, without an engine."""
    return Checkpoint.load(converted)


@pytest_asyncio.fixture(scope="module")
async def converted_engine(converted: Path) -> AsyncIterator["VLLMEngine"]:
    """Real vLLM on the converted checkpoint, in float32."""
    # Here, because tests that need no vLLM should not wait for its imports.
    from server.llm.vllm_engine import VLLMEngine

    settings = LLMSettings(dtype="float32", kv_cache_gib=0.25, max_num_seqs=8, max_num_batched_tokens=64)
    engine = await VLLMEngine.start(converted, settings)
    yield engine
    await engine.shutdown()
