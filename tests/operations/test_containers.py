"""What the images and the Compose file say of themselves: building them takes more than CI has, this does not."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from server.http_server import LAST_BYTES_S
from server.service import LAST_EVENT_LIMIT_S
from server.settings import Settings
from tests.operations.gateway import reference
from tests.operations.programs import program

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROFILES = {
    "cpu": {"redis", "server", "worker", "prometheus", "grafana"},
    "gpu": {"redis", "server-gpu", "worker-gpu", "prometheus", "grafana"},
    "cpu,gateway": {"redis", "server", "worker", "prometheus", "grafana", "gateway"},
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

every_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)


@cache
def composed(**variables: str) -> dict[str, Any]:
    """The Compose file with its variables filled in, as Compose understands it."""
    command = [program("docker-compose"), "--project-directory", ROOT, "config", "--format", "json"]
    run = subprocess.run(command, env=variables, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def stages(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each stage of a Dockerfile."""
    text = dockerfile.read_text()
    froms = list(re.finditer(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    ends = [*(each.start() for each in froms[1:]), len(text)]
    return ((begin[1], text[begin.start() : end]) for begin, end in zip(froms, ends, strict=True))


@every_dockerfile
def test_a_dockerfile_keeps_to_the_rules_of_hadolint(dockerfile: Path) -> None:
    run = subprocess.run([program("hadolint"), "--no-color", dockerfile], capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stdout


@every_dockerfile
@pytest.mark.parametrize("role", ["server", "worker"])
def test_an_image_says_what_it_is_is_not_root_and_can_be_asked_for_its_health(dockerfile: Path, role: str) -> None:
    stage = dict(stages(dockerfile))[role]
    labels = dict(re.findall(r"org\.opencontainers\.image\.(\w+)=\"(.*?)\"", stage))

    assert labels.keys() == {"title", "description", "version", "revision", "licenses"}
    assert (labels["title"], labels["licenses"]) == (f"dreamserve-{role}", PROJECT["license"])
    assert labels["version"] == PROJECT["version"]
    assert re.findall(r"^USER (.+)$", stage, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in stage


@every_dockerfile
def test_an_image_names_the_version_of_its_base(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], base) for base in re.findall(r"^FROM (\S+)", text, re.M)
    ]

    assert [base for base in bases if ":" in base and not re.search(r":v?\d+\.\d+\.\d+", base)] == []


def test_an_image_has_the_versions_that_the_project_asks_for() -> None:
    wanted = dict(
        requirement.split("==")
        for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu"]
        if "==" in requirement
    )
    cpu, cuda = (dict(re.findall(r"^ARG (\w+)=(\S+)$", path.read_text(), re.MULTILINE)) for path in DOCKERFILES)

    assert cpu["TORCH"] == wanted["torch"]
    assert cuda["VLLM"] == wanted["vllm"]


@pytest.mark.parametrize("profiles", PROFILES)
def test_a_profile_starts_what_it_is_for_and_nothing_else(profiles: str) -> None:
    assert composed(COMPOSE_PROFILES=profiles)["services"].keys() == PROFILES[profiles]


def test_without_a_word_it_is_the_profile_for_machines_without_a_gpu() -> None:
    assert composed()["services"].keys() == PROFILES["cpu"]


@pytest.mark.parametrize("profiles", PROFILES)
def test_every_service_is_confined_pinned_and_reached_from_this_machine_only(profiles: str) -> None:
    for name, service in composed(COMPOSE_PROFILES=profiles)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":\D*\d+\.\d+\.\d+", service["image"]), name
        assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}, name


def test_servers_and_workers_have_the_time_that_they_take_to_stop() -> None:
    services, settings = composed()["services"], Settings()
    delay_s = float(services["server"]["environment"]["DREAMSERVE_SERVER__SHUTDOWN_DELAY_S"])
    documents_s = settings.server.shutdown_grace_s + LAST_EVENT_LIMIT_S + LAST_BYTES_S
    check = reference()["static_resources"]["clusters"][0]["health_checks"][0]

    assert seconds(services["server"]["stop_grace_period"]) >= delay_s + documents_s + 10
    assert seconds(services["worker"]["stop_grace_period"]) >= settings.worker.drain_s + 10
    assert delay_s > seconds(check["interval"]) + seconds(check["timeout"])


def test_the_gateway_is_the_one_that_the_tests_run_against() -> None:
    image = composed(COMPOSE_PROFILES="cpu,gateway")["services"]["gateway"]["image"]
    tested = subprocess.run([program("envoy"), "--version"], capture_output=True, check=True, text=True).stdout
    assert f"/{image.removeprefix('envoyproxy/envoy:distroless-v')}/" in tested


def test_health_is_asked_where_the_servers_answer() -> None:
    services = composed(COMPOSE_PROFILES="cpu,gpu,gateway")["services"]
    endpoint = reference()["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    health_port = str(endpoint["endpoint"]["health_check_config"]["port_value"])
    scraped = (ROOT / "docker" / "prometheus" / "prometheus.yml").read_text()

    for name in ("server", "server-gpu"):
        assert services[name]["environment"]["DREAMSERVE_SERVER__OPS_PORT"] == health_port
        assert services[name]["healthcheck"]["test"] == ["CMD", "healthcheck", health_port, "/health/ready"]
    assert re.search(rf"names: \[server\], type: A, port: {health_port}\b", scraped)


def seconds(duration: str) -> float:
    """Of a duration as Compose and Envoy write it."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration))
