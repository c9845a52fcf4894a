"""The two servers: ours, and vLLM's own with the same settings. Both run all the time; one at a time has callers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from load_tests.service.deployment import START_LIMIT_S, deployed
from server.demo import NotStartedError, free_port, stop, tail
from server.llm.vllm_arguments import engine_args
from server.llm.vllm_processes import variables
from server.settings import DEFAULT_CHECKPOINT, LLMSettings

MODEL = "dreamllm-tiny"
MAX_MODEL_LEN = 1024
MAX_NUM_SEQS = 64
KV_CACHE_GIB = 0.5
LLM = LLMSettings(max_model_len=MAX_MODEL_LEN, max_num_seqs=MAX_NUM_SEQS, kv_cache_gib=KV_CACHE_GIB)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: where it listens.
        process: that listens and streams. vLLM's engine is another one.
    """

    url: str
    process: psutil.Process


@contextmanager
def our_server(logs: Path) -> Iterator[Server]:
    """``dreamserve serve``, which could also draw.

    Raises:
        NotStartedError: it did not become ready.
    """
    settings = {
        "DREAMSERVE_LLM__MAX_MODEL_LEN": str(LLM.max_model_len),
        "DREAMSERVE_LLM__MAX_NUM_SEQS": str(LLM.max_num_seqs),
        "DREAMSERVE_LLM__KV_CACHE_GIB": str(LLM.kv_cache_gib),
    }
    with deployed("local", settings, logs) as service:
        yield Server(service.url, service.processes()["server"])


@contextmanager
def vllm_server(logs: Path) -> Iterator[Server]:
    """What ``vllm serve`` starts, without a log of requests.

    It lacks what ours adds to vLLM: the capture of dream states, penalties over pictures, priorities.

    Raises:
        NotStartedError: it did not become ready.
    """
    port = free_port()
    ours = engine_args(DEFAULT_CHECKPOINT, LLM)
    options = {
        "model": ours.model,
        "served-model-name": MODEL,
        "host": "127.0.0.1",
        "port": port,
        "uvicorn-log-level": "warning",
        "dtype": ours.dtype,
        "max-model-len": ours.max_model_len,
        "max-num-seqs": ours.max_num_seqs,
        "block-size": ours.block_size,
        "kv-cache-memory-bytes": ours.kv_cache_memory_bytes,
        "gpu-memory-utilization": ours.gpu_memory_utilization,
        "generation-config": ours.generation_config,
        "mm-processor-cache-gb": ours.mm_processor_cache_gb,
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enable-prefix-caching"]
    command += ["--enforce-eager"] if ours.enforce_eager else []
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    log = logs / "vllm.log"
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, **variables(LLM)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(f"{url}/health", process, log)
            yield Server(url, psutil.Process(process.pid))
        finally:
            stop(process)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server answers its health check.

    Raises:
        NotStartedError: it ended, or took too long.
    """
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.25)
    raise NotStartedError(f"the server was not ready:\n{tail(log)}")
