"""The metrics: in Prometheus' own opinion, as docs/operations.md lists them, and moving under a real request."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY, Metric, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from models.diffusion.stats import EngineCounters
from server.backend import Backend, DrawingDefaults
from server.llm.prompt import PromptBuilder
from server.observe import metrics, worker
from server.observe.diffusion import exported
from server.settings import Settings
from tests.api.serving import Running, in_memory, scripted_engine, until
from tests.operations.programs import program
from tests.pool.deployment import Deployment
from tests.redis_server import RedisServer
from tests.scripted.script import DREAM, EOS, Gate
from tests.tiny_diffusion import random_decoder, random_states

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
OURS = ("dreamserve_", "process_", "python_")
LABELS = {
    metric._name: set(metric._labelnames)
    for metric in (*vars(metrics).values(), *vars(worker).values())
    if isinstance(metric, MetricWrapperBase)
}
"""Of metrics of which nothing may have been counted yet."""
DRAWING = DrawingDefaults(32, 32, size_multiple=16, steps=4, guidance_scale=3.0, scheduler="ddpm")


def families() -> Iterable[Metric]:
    """All metrics of server and worker but vLLM's, which may be there or not, and the times at which series began."""
    with exported(EngineCounters().snapshot):
        text = generate_latest(REGISTRY).decode()
    ours = (family for family in text_string_to_metric_families(text) if family.name.startswith(OURS))
    return [family for family in ours if not family.name.endswith("_created")]


def labels_of(family: Metric) -> set[str]:
    """Labels of what has been counted already."""
    return {label for sample in family.samples for label in sample.labels}


def table() -> list[str]:
    """The metrics as docs/operations.md lists them."""
    rows = ["| metric | type | labels | what |", "| --- | --- | --- | --- |"]
    for family in sorted(families(), key=lambda family: family.name):
        if family.name.startswith("dreamserve_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = sorted(LABELS.get(family.name, set()) | labels_of(family) - {"le"})
            rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return rows


def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    promtool = program("promtool")
    with exported(EngineCounters().snapshot):
        all_of_them = generate_latest(REGISTRY).decode()
    text = "".join(
        block
        for block in re.split(r"(?=^# HELP )", all_of_them, flags=re.MULTILINE)
        if block.startswith(tuple(f"# HELP {prefix}" for prefix in OURS))
    )
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for histogram in ("handoff", "diffusion_step", "worker_job_wait", "time_to_first_token"):
        assert f"dreamserve_{histogram}_seconds_bucket" in text


def test_the_operators_page_lists_every_metric_as_it_is() -> None:
    listed = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(("| metric", "| `dreamserve_"))]
    right = table()
    assert listed == [right[0], *right[2:]], "it should be:\n" + "\n".join(right)


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    with RedisServer() as redis:
        async with Deployment(redis.url, f"test-{uuid4().hex}", random_decoder()) as deployment:
            yield deployment


@asynccontextmanager
async def server_of(deployment: Deployment, gate: Gate) -> AsyncIterator[Running]:
    """A server, and a worker beside it in this process. The model draws two pictures, and stops at the gate."""
    dreams = [random_states(n) for n in range(3)]
    engine = scripted_engine(["Look: ", DREAM], [" and ", gate, DREAM], ["the end.", EOS], dreams=dreams)
    pool = await deployment.server()
    worker = await deployment.worker()

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, PromptBuilder(engine), pool, DRAWING, draws_here=False)

    with exported(worker.worker.stats):
        async with in_memory(engine, open_backend=open_backend) as running:
            await running.ready()
            yield running


async def scrape(app: Running) -> dict[str, float]:
    """Every sample but those of single buckets, by its name and its labels."""
    text = (await app.client.get("/metrics")).text
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


async def test_a_real_request_moves_the_metrics_of_server_worker_and_engine(deployment: Deployment) -> None:
    gate = Gate()
    async with server_of(deployment, gate) as app:
        before = await scrape(app)
        body = {"input": "Show me.", "store": True, "stream": True, "images": {"steps": 4}}
        asking = asyncio.create_task(app.client.post("/v1/interleaved", json=body))
        await gate.reached.wait()
        during = await scrape(app)
        gate.open()
        await asking
        await until(lambda: not app.service.documents)
        await until(lambda: worker.HELD.collect()[0].samples[0].value == 0)  # it has counted what it drew
        after = await scrape(app)

    moved = {name: after[name] - before.get(name, 0.0) for name in after}
    assert {name: moved[name] for name in EXPECTED} == EXPECTED
    assert during["dreamserve_sse_connections"] - before["dreamserve_sse_connections"] == 1
    assert during["dreamserve_documents_running"] - before["dreamserve_documents_running"] == 1
    assert during["dreamserve_journal_bytes"] > 0
    for gauge in ("sse_connections", "documents_running", "stalled_documents", "stalled_kv_tokens"):
        assert moved[f"dreamserve_{gauge}"] == 0
    assert after["dreamserve_pool_workers_alive"] == 1
    assert moved["dreamserve_feedback_prefix_tokens_total{recomputed}"] > 0  # a scripted engine caches nothing


EXPECTED = {
    "dreamserve_documents_total{stop}": 1,
    "dreamserve_images_total{completed}": 2,
    "dreamserve_time_to_first_token_seconds_count": 1,
    "dreamserve_inter_token_latency_seconds_count": len("Look: ") + len(" and ") + len("the end."),
    "dreamserve_text_stall_seconds_count": 2,
    "dreamserve_time_to_first_image_seconds_count": 1,
    "dreamserve_image_gap_seconds_count": 1,
    "dreamserve_image_duration_seconds_count": 2,
    "dreamserve_handoff_seconds_count": 2,
    "dreamserve_worker_job_wait_seconds_count": 2,
    "dreamserve_worker_jobs_taken_total": 2,
    "dreamserve_worker_jobs_ended_total{completed}": 2,
    "dreamserve_diffusion_steps_total": 8,
    "dreamserve_diffusion_batch_size_count": 8,
    "dreamserve_diffusion_queue_seconds_count": 2,
    "dreamserve_denoising_steps_total": 8,
}
"""By how much a story with two pictures of four steps moves what counts it."""
