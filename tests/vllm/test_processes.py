"""What vLLM's processes inherit, and that this one gets its own back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.llm.vllm_processes import available_cores, inheritance, interrupts_blocked, variables
from server.settings import LLMSettings

ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def test_processes_started_meanwhile_do_not_hear_a_ctrl_c() -> None:
    def deaf() -> str:
        return subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout.strip()

    with interrupts_blocked():
        assert deaf() == "True"
    assert deaf() == "False"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_environment_is_given_back_whatever_was_added() -> None:
    before = dict(os.environ)
    with inheritance(LLMSettings()):
        os.environ["ADDED_MEANWHILE"] = "1"
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert dict(os.environ) == before


LOG = """
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging, init_logger

configure_logging(LoggingConfig())  # what each of vLLM's processes begins with
init_logger("vllm.tried").info("two\\nlines")
"""


def test_vllms_processes_log_json_where_this_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def logged() -> subprocess.CompletedProcess[str]:
        with inheritance(LLMSettings(log_level="INFO"), "json"):
            return subprocess.run([sys.executable, "-c", LOG], check=True, capture_output=True, text=True)

    in_json = logged()
    assert not in_json.stdout
    lines = [json.loads(line) for line in in_json.stderr.splitlines()]
    assert ("vllm.tried", "info", "two\nlines") in [(line["logger"], line["level"], line["message"]) for line in lines]

    monkeypatch.setenv("VLLM_LOGGING_CONFIG_PATH", "of-the-operator.json")
    with inheritance(LLMSettings(), "json"):
        assert os.environ["VLLM_LOGGING_CONFIG_PATH"] == "of-the-operator.json"


def test_what_the_operator_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "0")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    chosen = variables(LLMSettings())

    assert chosen["VLLM_NO_USAGE_STATS"] == "0"
    assert chosen["PYTHONWARNINGS"].startswith("error,ignore::")


@pytest.mark.parametrize(("enforce_eager", "compiles"), [(None, False), (True, False), (False, True)])
def test_an_eager_vllm_on_a_cpu_starts_no_compiler(enforce_eager: bool | None, compiles: bool) -> None:
    chosen = variables(LLMSettings(enforce_eager=enforce_eager))

    assert ("TORCHDYNAMO_DISABLE" in chosen) is not compiles


@pytest.mark.parametrize(
    ("limit", "cores"), [(None, 8), ("max 100000", 8), ("250000 100000", 3), ("10000 100000", 1), ("9900000 100000", 8)]
)
def test_the_cpu_quota_of_a_container_limits_the_cores(
    limit: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")

    assert available_cores(tmp_path) == cores
