"""How vLLM runs the model: its settings, and what they become as its arguments and the environment of its processes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from models.vllm_plugin.dream_capture import DreamCaptureConnector, DreamCaptureWorkerExtension

GIB = 1 << 30
# By name: the module imports what only the CPU build of vLLM has.
CPU_WORKER = "models.vllm_plugin.cpu_worker.SeededCPUWorker"


@dataclass(frozen=True, slots=True)
class VLLMSettings:
    """How vLLM runs the model. None leaves a choice to vLLM, or to the platform.

    Attributes:
        model: the checkpoint's folder.
        dtype: of weights and states; ``"auto"`` is the checkpoint's, but bfloat16 for a float32 checkpoint.
        max_model_len: tokens that a context may hold; None is the checkpoint's limit.
        max_num_seqs: requests that decode together.
        max_num_batched_tokens: tokens of one step; a longer prompt is computed in several.
        block_size: tokens of a KV block, the unit of prefix caching; on a CPU a multiple of 32, and None is 32.
        kv_cache_gib: KV cache on a CPU.
        gpu_memory_utilization: share of a GPU's memory for weights, activations and KV cache.
        tensor_parallel_size: GPUs that share the model.
        enforce_eager: no compilation and no CUDA graphs; None means so on a CPU, where compiling costs minutes.
        cpu_threads: threads of the CPU kernels; None is half of the cores that this process may use.
        image_cache_gib: preprocessed pictures kept, so that a picture sent again is not processed again.
        dream_state_cache: contexts whose dream states are kept.
        seed: for requests that bring none.
        log_level: of vLLM's own loggers, in all of its processes. WARNING adds some twenty lines to a start on a CPU,
            none of which asks for action.
    """

    model: Path
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    kv_cache_gib: float = 1.0
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    enforce_eager: bool | None = None
    cpu_threads: int | None = None
    image_cache_gib: float = 0.25
    dream_state_cache: int = 64
    seed: int = 0
    log_level: str = "ERROR"


def engine_args(settings: VLLMSettings) -> AsyncEngineArgs:
    """vLLM's arguments for a DreamLLM."""
    on_cpu = current_platform.is_cpu()
    args: dict[str, Any] = {
        "max_model_len": settings.max_model_len,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "block_size": settings.block_size,
    }
    if on_cpu:
        # An explicit size, because left alone vLLM takes a share of all memory. With it vLLM also skips its warm-up.
        args["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * GIB)
        args["worker_cls"] = CPU_WORKER
        args["block_size"] = settings.block_size or 32
    return AsyncEngineArgs(
        model=str(settings.model),
        dtype=settings.dtype,
        max_num_seqs=settings.max_num_seqs,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        enforce_eager=on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        enable_prefix_caching=True,
        mm_processor_cache_gb=settings.image_cache_gib,
        seed=settings.seed,
        # Sampling defaults are the request's business, not the checkpoint's.
        generation_config="vllm",
        use_tqdm_on_load=False,
        kv_transfer_config=KVTransferConfig(
            kv_connector=DreamCaptureConnector.__name__,
            kv_connector_module_path=DreamCaptureConnector.__module__,
            kv_role="kv_producer",
        ),
        worker_extension_cls=f"{DreamCaptureWorkerExtension.__module__}.{DreamCaptureWorkerExtension.__qualname__}",
        **{name: value for name, value in args.items() if value is not None},
    )


@contextmanager
def worker_environment(settings: VLLMSettings) -> Iterator[None]:
    """The environment in which vLLM's processes start. This one gets its own back, whatever vLLM adds meanwhile."""
    # This process has torch threads by now, and a fork would copy the locks that they hold.
    variables = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": settings.log_level,
        # Chatter of libraries below vLLM: torch about Triton and NUMA, vLLM about torch.
        "TORCH_LOGS": "-torch._library.triton",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning:vllm.triton_utils.dispatcher",
    }
    if current_platform.is_cpu():
        # By default vLLM pins one thread to every core, which suits a machine of its own. Here the diffusion engine
        # draws on the same cores: a pinned thread would wait for its core while the other one idles.
        cores = len(os.sched_getaffinity(0))
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        variables["OMP_NUM_THREADS"] = str(settings.cpu_threads or max(1, cores // 2))
        # Intel's OpenMP comes with the CPU build on x86. Torch's own spins where this one yields: on two busy cores two
        # threads of it decoded three times slower than two of Intel's, and slower than one. With one they are alike.
        intel_openmp = Path(sys.prefix, "lib", "libiomp5.so")
        if intel_openmp.exists():
            preloaded = os.environ.get("LD_PRELOAD")
            variables["LD_PRELOAD"] = f"{intel_openmp}:{preloaded}" if preloaded else str(intel_openmp)
            # What vLLM sets when it pins threads: milliseconds that an idle thread spins.
            variables["KMP_BLOCKTIME"] = "5"
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
