"""What a benchmark says of its conditions is true of the processes that are measured."""

import os

import pytest
import torch

from load_tests.conditions import print_conditions, threads_here
from load_tests.service.threads import COMPUTES_NOTHING, service_threads, vllm_threads
from server.settings import LLMSettings

CONTENTION = {"DREAMSERVE_LLM__CPU_THREADS": "3", "OMP_NUM_THREADS": "2"}


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DREAMSERVE_LLM__CPU_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def test_threads_of_a_service_are_those_of_its_settings() -> None:
    assert service_threads("worker", CONTENTION) == "vLLM with 3 threads, the diffusion engine with 2 threads"


def test_without_settings_vllm_has_half_of_the_cores_and_what_draws_has_what_torch_gives() -> None:
    assert service_threads("local", {}) == f"vLLM with 4 threads, the diffusion engine with {threads_here()}"


def test_a_service_inherits_the_threads_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_LLM__CPU_THREADS", "1")
    assert service_threads("local", {}).startswith("vLLM with 1 thread,")


def test_stand_ins_compute_nothing() -> None:
    assert service_threads("scripted", CONTENTION) == COMPUTES_NOTHING


def test_the_threads_that_are_told_are_the_ones_that_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    line = print_conditions(torch.device("cpu"), vllm_threads(LLMSettings(cpu_threads=5)), "two rounds")
    assert f"torch {torch.__version__}, vLLM with 5 threads, on " in line
    assert line.endswith("; two rounds")
    assert capsys.readouterr().out == f"conditions: {line}\n"
