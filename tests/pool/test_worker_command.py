"""``dreamserve worker``: a process that loads no more than it draws with, says how it is, and leaves in good order."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from models.diffusion.fingerprint import checkpoint_id
from server import cli
from server.observe.probes import probes
from server.pool import drawing
from tests.pool.deployment import Deployment
from tests.pool.rendering import eventually, picture, same_picture
from tests.redis_server import RedisServer
from tests.tiny_diffusion import HIDDEN_SIZE, QUERIES, make_random_diffusion, make_render_job, random_decoder

NOT_NEEDED = ("vllm", "fastapi", "models.dreamllm", "server.api", "server.interleave", "server.llm")
MEMORY_MIB = 1500
"""Of which torch and diffusers take most."""

CALIBRATE = """
import json, resource, sys, time
began = time.perf_counter()
from server import cli
from server.pool import drawing
from server.pool.worker import command as worker_command
imported = time.perf_counter() - began
drawing.CALIBRATED_UP_TO = 2
try:
    cli.main()
except SystemExit as end:
    code = end.code
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"code": code, "import_s": imported, "memory_mib": memory, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of one as a worker reads."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_random_diffusion(folder, hidden_size=HIDDEN_SIZE)
    (folder / "config.json").write_text(json.dumps({"num_dream_queries": QUERIES}))
    return folder


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[Process]:
    """A Python process, killed at the end if it is still there."""
    environment = {**os.environ, "COLUMNS": "40", "OMP_NUM_THREADS": "1", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_worker_process_draws_reports_and_says_goodbye(checkpoint: Path, namespace: str) -> None:
    arguments = ["-m", "server.cli", "worker", "--model", str(checkpoint), "--port", "0"]
    with RedisServer(password="s3cret") as server:
        async with (
            Deployment(server.url, namespace, random_decoder(), checkpoint_id(checkpoint / "diffusion")) as deployment,
            process(*arguments, DREAMSERVE_REDIS__URL=server.url, DREAMSERVE_REDIS__NAMESPACE=namespace) as worker,
        ):
            assert worker.stdout is not None
            said = b""
            while not (ready := re.search(rb"ready to draw .*\((http://.*)/metrics\)", said)):
                line = await worker.stdout.readline()
                assert line, said.decode()
                said += line
            async with httpx.AsyncClient(base_url=ready[1].decode(), follow_redirects=True, timeout=60) as http:
                assert (await http.get("/health/live")).json() == {"status": "alive"}
                await eventually(lambda: _is_ready(http))
                pool = await deployment.server()
                drawn = await picture(pool, make_render_job("a"))
                metrics = _values((await http.get("/metrics")).text)
            assert metrics["dreamserve_worker_jobs_taken_total"] == 1
            assert metrics["dreamserve_worker_jobs_held"] == 0
            assert metrics["dreamserve_worker_jobs_ended_total", "completed"] == 1
            assert metrics["dreamserve_diffusion_steps_total"] == 4
            worker.send_signal(signal.SIGTERM)
            rest, _ = await worker.communicate()
            assert worker.returncode == 0
            assert await deployment.names("worker") == []
            assert b"s3cret" not in said + rest
            assert b"ERROR" not in said + rest
            await deployment.worker()
            assert same_picture(drawn, await picture(pool, make_render_job("a")))


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health/ready")).is_success


def _values(text: str) -> dict[object, float]:
    """Values of metrics by their names, or by name and label."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (sample.name, *sample.labels.values()) if sample.labels else sample.name: sample.value for sample in samples
    }


@pytest.mark.parametrize(
    ("not_started", "unhealthy", "not_ready", "expected"),
    [
        (None, None, None, [200, 200, 200]),
        ("loading", None, None, [503, 200, 503]),
        (None, None, "draining", [200, 200, 503]),
        (None, "the engine died", None, [200, 503, 503]),
    ],
)
async def test_a_probe_says_what_is_wrong(
    not_started: str | None, unhealthy: str | None, not_ready: str | None, expected: list[int]
) -> None:
    app = probes(lambda: not_started, lambda: unhealthy, lambda: not_ready)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as http:
        answers = [await http.get(f"/health/{probe}") for probe in ("started", "live", "ready")]
    assert [answer.status_code for answer in answers] == expected
    for answer in answers:
        if answer.is_error:
            assert answer.json()["error"]["message"] == (not_started or unhealthy or not_ready)


async def test_a_worker_loads_neither_vllm_nor_what_serves_http(checkpoint: Path) -> None:
    async with process("-c", CALIBRATE, "worker", "--calibrate", "--model", str(checkpoint)) as worker:
        output, _ = await worker.communicate()
    *_, last = output.decode().splitlines()
    report = json.loads(last)
    print(f"imports took {report['import_s']:.1f} s, memory at the end is {report['memory_mib']:.0f} MiB")
    assert report["code"] == 0, output.decode()
    assert [name for name in NOT_NEEDED if name in report["modules"]] == []
    assert report["memory_mib"] < MEMORY_MIB


@pytest.fixture
def no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own would outlive the test."""
    monkeypatch.setattr("server.observe.logging.configure_logging", lambda *_: None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["worker", *arguments])


def test_calibration_prints_what_was_measured(
    checkpoint: Path, no_logging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "CALIBRATED_UP_TO", 4)
    result = run("--calibrate", "--model", str(checkpoint))
    assert result.exit_code == 0
    rows = re.findall(r"^│ *(\d+) *│ *(\S+) *│ *(\S+) *│$", result.output, re.MULTILINE)
    assert [int(batch) for batch, _, _ in rows] == [1, 2, 4]
    assert all(float(seconds) > 0 and float(speed) > 0 for _, seconds, speed in rows)


def test_without_a_redis_there_is_nothing_to_do() -> None:
    result = run()
    assert result.exit_code == 2
    assert "--redis" in result.output


@pytest.mark.parametrize("url", ["http://localhost", "redis://s3cret@localhost", "redis://localhost/dreams"])
def test_a_redis_url_that_cannot_be_read_is_refused_before_anything_is_loaded(url: str) -> None:
    result = run("--redis", url)
    assert result.exit_code == 2
    assert "redis.url" in result.output
    assert "s3cret" not in result.output


def test_without_a_checkpoint_the_command_ends(tmp_path: Path) -> None:
    result = run("--redis", "redis://localhost", "--model", str(tmp_path))
    assert result.exit_code == 2
    assert str(tmp_path) in result.output


def test_a_port_in_use_is_said_before_anything_is_loaded(checkpoint: Path, no_logging: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("--redis", "redis://localhost", "--model", str(checkpoint), "--port", port)
    assert result.exit_code == 1
    assert port in result.output


@pytest.mark.parametrize("content", ["{}", '{"num_dream_queries": 0}', "no JSON"])
def test_a_broken_checkpoint_ends_the_command_with_the_reason(
    checkpoint: Path, tmp_path: Path, no_logging: None, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tmp_path / "diffusion").symlink_to(checkpoint / "diffusion")
    (tmp_path / "config.json").write_text(content)
    assert run("--calibrate", "--model", str(tmp_path)).exit_code == 1
    assert "the checkpoint cannot be loaded" in caplog.text
