"""How vLLM runs the model: our settings as its arguments."""

from pathlib import Path
from typing import Any

from vllm.config import KVTransferConfig, StructuredOutputsConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

from models.vllm_plugin.answer_penalties import AnswerPenalties, AnswerPenaltiesV2
from models.vllm_plugin.dream_capture import DreamCaptureConnector, DreamCaptureWorkerExtension
from server.settings import LLMSettings

GIB = 1 << 30
# By name: the module imports what only the CPU build of vLLM has.
CPU_WORKER = "models.vllm_plugin.cpu_worker.SeededCPUWorker"


def engine_config(checkpoint: Path, settings: LLMSettings) -> VllmConfig:
    """vLLM's configuration for the DreamLLM in a folder.

    Raises:
        ValueError: vLLM has no such model, or cannot run it with these settings.
    """
    config = engine_args(checkpoint, settings).create_engine_config(UsageContext.ENGINE_CONTEXT)
    # Only now is it known which model runner there will be.
    penalties = AnswerPenaltiesV2 if config.use_v2_model_runner else AnswerPenalties
    config.model_config.logits_processors = [f"{penalties.__module__}:{penalties.__qualname__}"]
    return config


def engine_args(checkpoint: Path, settings: LLMSettings) -> AsyncEngineArgs:
    """vLLM's arguments for the DreamLLM in a folder."""
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
        model=str(checkpoint),
        dtype=settings.dtype,
        max_num_seqs=settings.max_num_seqs,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        enforce_eager=on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        enable_prefix_caching=True,
        # The later requests of an answer go before the first ones of others, and are preempted after them.
        scheduling_policy="priority",
        mm_processor_cache_gb=settings.image_cache_gib,
        # Sampling defaults are the request's business, not the checkpoint's.
        generation_config="vllm",
        # By name, because vLLM's own choice changes with the schema, and the first one would serve all. Free whitespace
        # would let a model that never learned JSON fill the context with blanks.
        structured_outputs_config=StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
        use_tqdm_on_load=False,
        kv_transfer_config=KVTransferConfig(
            kv_connector=DreamCaptureConnector.__name__,
            kv_connector_module_path=DreamCaptureConnector.__module__,
            kv_role="kv_producer",
        ),
        worker_extension_cls=f"{DreamCaptureWorkerExtension.__module__}.{DreamCaptureWorkerExtension.__qualname__}",
        **{name: value for name, value in args.items() if value is not None},
    )
