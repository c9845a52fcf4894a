"""How many threads the processes of a service compute with: by its settings, for they are not those who measure."""

import os
from collections.abc import Mapping

from load_tests.conditions import counted, threads_here
from load_tests.service.deployment import Kind
from server.llm.vllm_processes import variables
from server.settings import LLMSettings

COMPUTES_NOTHING = "which computes nothing"
LLM_THREADS = "DREAMSERVE_LLM__CPU_THREADS"
TORCH_THREADS = "OMP_NUM_THREADS"


def service_threads(kind: Kind, settings: Mapping[str, str]) -> str:
    """Those of a service that is started with these settings, in the form of environment variables.

    Where they say nothing, what draws has as many as torch gives any process here.
    """
    if kind == "scripted":
        return COMPUTES_NOTHING
    llm = LLMSettings.model_validate({"cpu_threads": settings.get(LLM_THREADS, os.environ.get(LLM_THREADS))})
    drawing = counted(int(settings[TORCH_THREADS])) if TORCH_THREADS in settings else threads_here()
    return f"{vllm_threads(llm)}, the diffusion engine with {drawing}"


def vllm_threads(settings: LLMSettings) -> str:
    """Those of vLLM's processes, which on a CPU leave some cores to others."""
    threads = variables(settings).get(TORCH_THREADS)
    return f"vLLM with {counted(int(threads))}" if threads else "vLLM on a GPU"
