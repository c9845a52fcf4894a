"""The metrics move with what happens, and Prometheus can read them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.diffusion.job import Failed
from models.diffusion.stats import EngineCounters
from server.availability import State
from server.observe.diffusion import exported
from server.pool.base import PoolLoad, RenderError
from tests.api.serving import Running, in_memory, scripted_engine, until
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import DREAM, EOS, Gate

BUSY = PoolLoad(queue_depth=5, running=3, seconds_ahead=12.5, workers_alive=2)


async def scrape(app: Running) -> dict[str, float]:
    response = await app.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


async def test_a_document_is_counted_with_its_pictures_tokens_and_times() -> None:
    turns = (["Look: ", DREAM], [" and ", DREAM], ["the end.", EOS])
    pool = ScriptedPool([lambda job: [], drawing, [RenderError("render_failed", "no")]])
    async with in_memory(scripted_engine(*turns), pool) as app:
        await app.ready()
        before = await scrape(app)
        document = (await app.client.post("/v1/interleaved", json={"input": "a"})).json()
        await until(lambda: not app.service.documents)
        after = await scrape(app)

    def moved(sample: str) -> float:
        return after[sample] - before.get(sample, 0.0)

    usage = document["usage"]
    assert moved("dreamserve_documents_total{outcome=stop}") == 1
    assert moved("dreamserve_images_total{outcome=completed}") == 1
    assert moved("dreamserve_images_total{outcome=failed}") == 1
    assert moved("dreamserve_tokens_total{kind=completion}") == usage["completion_tokens"]
    assert moved("dreamserve_tokens_total{kind=image}") == usage["image_tokens"]
    assert moved("dreamserve_tokens_total{kind=prompt}") == usage["prompt_tokens"]
    assert moved("dreamserve_denoising_steps_total{}") == usage["denoising_steps"]
    for histogram in ("time_to_first_token", "time_to_first_image", "image_duration", "document_duration"):
        assert moved(f"dreamserve_{histogram}_seconds_count{{}}") == 1
    assert moved("dreamserve_text_stall_seconds_count{}") == 2
    chunks = len("Look: ") + len(" and ") + len("the end.") + 3  # a character each, and what ends a turn
    assert moved("dreamserve_inter_token_latency_seconds_count{}") == chunks - 1 - 2
    http = "method=POST,route=/v1/interleaved"
    assert moved(f"dreamserve_http_requests_total{{{http},status=200}}") == 1
    assert moved(f"dreamserve_http_request_duration_seconds_count{{{http}}}") == 1
    assert after["dreamserve_documents_running{}"] == before["dreamserve_documents_running{}"]


@asynccontextmanager
async def busy() -> AsyncIterator[tuple[Running, Gate]]:
    """A service with a busy pool, making a document that goes on when the gate is opened."""
    gate = Gate()
    async with in_memory(scripted_engine(["Once", gate, EOS])) as app:
        await app.ready()
        app.pool.current_load = BUSY
        asking = asyncio.create_task(app.client.post("/v1/interleaved", json={"input": "a"}))
        await gate.reached.wait()
        yield app, gate
        await asking


async def test_the_gauges_tell_what_is_going_on_now() -> None:
    async with busy() as (app, gate):
        samples = await scrape(app)
        gate.open()

    assert samples["dreamserve_documents_running{}"] == 1
    assert samples["dreamserve_pool_jobs_waiting{}"] == 5
    assert samples["dreamserve_pool_jobs_running{}"] == 3
    assert samples["dreamserve_pool_work_ahead_seconds{}"] == 12.5
    assert samples["dreamserve_pool_workers_alive{}"] == 2
    assert samples["dreamserve_ready{}"] == 1


async def test_ready_is_what_the_health_check_says() -> None:
    async with in_memory() as app:
        await app.ready()
        told = []
        for workers in (0, 1):
            app.pool.current_load = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=workers)
            told.append(
                ((await app.client.get("/health/ready")).status_code, (await scrape(app))["dreamserve_ready{}"])
            )

    assert told == [(503, 0), (200, 1)]


async def test_a_pool_that_does_not_answer_keeps_no_other_metric_back(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Gate()
    monkeypatch.setattr("server.api.health.POOL_LIMIT_S", 0.01)
    async with in_memory() as app:
        await app.ready()
        app.pool.current_load = BUSY
        with monkeypatch.context() as frozen:
            frozen.setattr(app.pool, "load", never.wait)
            samples = await scrape(app)

    assert samples["dreamserve_ready{}"] == 0
    assert samples["dreamserve_pool_workers_alive{}"] == 0
    assert samples["dreamserve_documents_running{}"] == 0


async def test_a_server_that_drains_goes_on_telling_of_the_pool() -> None:
    async with busy() as (app, gate):
        await scrape(app)
        draining = asyncio.create_task(app.service.drain(grace_s=60))
        await until(lambda: app.service.state is State.DRAINING)
        app.pool.current_load = PoolLoad(queue_depth=0, running=1, seconds_ahead=0.5, workers_alive=1)
        samples = await scrape(app)
        gate.open()
        await draining

    assert samples["dreamserve_ready{}"] == 0
    assert samples["dreamserve_pool_jobs_waiting{}"] == 0
    assert samples["dreamserve_pool_work_ahead_seconds{}"] == 0.5
    assert samples["dreamserve_pool_workers_alive{}"] == 1


async def test_a_request_that_is_refused_is_counted_by_its_status_and_route(running: Running) -> None:
    before = await scrape(running)
    await running.client.post("/v1/interleaved", json={})
    await running.client.post("/v1/interleaved", json={"input": "long " * 1000})
    await running.client.get("/somewhere/else")
    after = await scrape(running)

    refused = "dreamserve_http_requests_total{method=POST,route=/v1/interleaved,status=400}"
    lost = "dreamserve_http_requests_total{method=GET,route=unmatched,status=404}"
    rejected = "dreamserve_documents_total{outcome=rejected}"
    assert after[refused] - before.get(refused, 0.0) == 2
    assert after[lost] - before.get(lost, 0.0) == 1
    assert after[rejected] - before[rejected] == 1


async def test_what_the_diffusion_engine_counts_is_exported_while_it_runs(running: Running) -> None:
    counters = EngineCounters()
    counters.admitted(0.5)
    counters.stepped(batch=3, seconds=0.25)
    counters.stepped(batch=1, seconds=0.25)
    counters.previewed(2, left_out=1)
    counters.finished(0.125)
    counters.ended(Failed("cancelled", "no"), 1.0)
    with exported(counters.snapshot):
        during = await scrape(running)
    after = await scrape(running)

    of_engine = {
        name.removeprefix("dreamserve_diffusion_"): value
        for name, value in during.items()
        if name.startswith("dreamserve_diffusion") and "_bucket" not in name
    }
    assert of_engine == {
        "steps_total{}": 2,
        "job_steps_total{}": 4,
        "previews_total{outcome=decoded}": 2,
        "previews_total{outcome=left_out}": 1,
        "jobs_total{outcome=completed}": 0,
        "jobs_total{outcome=failed}": 0,
        "jobs_total{outcome=cancelled}": 1,
        "batch_size_count{}": 2,
        "batch_size_sum{}": 4,
        "step_seconds_count{}": 2,
        "step_seconds_sum{}": 0.5,
        "queue_seconds_count{}": 1,
        "queue_seconds_sum{}": 0.5,
        "finish_seconds_count{}": 1,
        "finish_seconds_sum{}": 0.125,
        "latency_seconds_count{}": 0,
        "latency_seconds_sum{}": 0,
    }
    assert [during[f"dreamserve_diffusion_batch_size_bucket{{le={up_to}}}"] for up_to in (1.0, 2.0, 3.0)] == [1, 1, 2]
    assert not any(name.startswith("dreamserve_diffusion") for name in after)
