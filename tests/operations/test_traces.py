"""The trace of one request, over server, Redis and worker, joined by what each of them sends to a collector."""

import asyncio
import json
import os
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from tests.operations.collector import Span, collector
from tests.operations.gateway import eventually
from tests.redis_server import HOST, RedisServer, free_port
from tests.tiny_diffusion import make_random_diffusion

QUERIES, HIDDEN_SIZE = 4, 8
"""Of the scripted language model."""
SAID = "xq-said-canary"
CALLER_SPAN, TRACE_ID, UNSAMPLED_ID = "b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319c", "1" * 32
SERVER, WORKER = "dreamserve-server", "dreamserve-worker"


@dataclass(frozen=True)
class Told:
    """What was told of one story with two pictures.

    Attributes:
        document: the answer.
        spans: of it.
        unsampled: spans of a second one, whose caller does not want it traced.
        lines: of the log of each service.
    """

    document: dict[str, Any]
    spans: list[Span]
    unsampled: list[Span]
    lines: dict[str, list[dict[str, Any]]]

    def one(self, name: str) -> Span:
        """The only span of this name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def below(self, span: Span) -> Counter[tuple[str, str]]:
        """Service and name of the children of a span."""
        return Counter((child.service, child.name) for child in self.spans if child.parent == span.id)


@asynccontextmanager
async def process(log: Path, *command: str, **environment: str) -> AsyncIterator[Process]:
    """A process that is told to stop at the end, and sends the last of its spans then."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, env={**os.environ, **environment}, stdin=PIPE, stdout=PIPE, stderr=output
        )
    try:
        yield process
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def parent(trace_id: str, *, sampled: bool) -> dict[str, str]:
    """The headers of a caller who traces."""
    return {"traceparent": f"00-{trace_id}-{CALLER_SPAN}-{int(sampled):02x}", "X-Request-Id": f"request-{trace_id[:4]}"}


async def ready(client: httpx.AsyncClient) -> None:
    """Return when the health check passes."""

    async def asked() -> int:
        return (await client.get("/health/ready")).status_code

    await eventually(asked, 200)


@pytest_asyncio.fixture(scope="module")
async def told(tmp_path_factory: Any) -> AsyncIterator[Told]:
    folder: Path = tmp_path_factory.mktemp("traced")
    make_random_diffusion(folder, hidden_size=HIDDEN_SIZE)
    (folder / "config.json").write_text(json.dumps({"num_dream_queries": QUERIES}))
    logs = {service: folder / service for service in (SERVER, WORKER)}
    body = {"input": SAID, "store": True, "images": {"steps": 3, "size": "32x32"}}
    with RedisServer() as redis:
        async with collector() as collecting, AsyncExitStack() as stack:
            environment = {
                "OMP_NUM_THREADS": "1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collecting.url,
                "DREAMSERVE_AUTH__ENABLED": "false",
                "DREAMSERVE_LOG__FORMAT": "json",
                "DREAMSERVE_LOG__LEVEL": "debug",
                "DREAMSERVE_MODEL__PATH": str(folder),
                "DREAMSERVE_REDIS__URL": redis.url,
                "DREAMSERVE_REDIS__NAMESPACE": uuid.uuid4().hex,
                "DREAMSERVE_SERVER__PORT": str(free_port()),
                "DREAMSERVE_WORKER__PORT": str(free_port()),
            }
            worker = process(logs[WORKER], "server.cli", "worker", **environment)
            await stack.enter_async_context(worker)
            server = await stack.enter_async_context(
                process(logs[SERVER], "tests.operations.traced_server", **environment)
            )
            assert server.stdin is not None
            server.stdin.write(b"\n")  # the story need not stop before its second picture
            url = f"http://{HOST}:{environment['DREAMSERVE_SERVER__PORT']}"
            async with httpx.AsyncClient(base_url=url, timeout=240) as client:
                await ready(client)
                answer = await client.post("/v1/interleaved", json=body, headers=parent(TRACE_ID, sampled=True))
                await client.post("/v1/interleaved", json=body, headers=parent(UNSAMPLED_ID, sampled=False))
            await stack.aclose()
    spans = collecting.spans
    yield Told(
        answer.json(),
        [span for span in spans if span.trace_id == TRACE_ID],
        [span for span in spans if span.trace_id == UNSAMPLED_ID],
        {service: [json.loads(line) for line in log.read_text().splitlines()] for service, log in logs.items()},
    )


async def test_the_spans_of_a_request_make_one_tree_from_the_caller_to_the_worker_and_back(told: Told) -> None:
    request, document = told.one("POST /v1/interleaved"), told.one("document")
    pictures = [span for span in told.spans if span.name == "picture"]
    draws = [span for span in told.spans if span.name == "draw"]
    texts = [span for span in told.spans if span.name == "text"]

    assert request.parent == CALLER_SPAN
    assert told.below(request) == {(SERVER, "admission"): 1, (SERVER, "document"): 1, (SERVER, "journal"): 1}
    assert told.below(document) == {
        (SERVER, "text"): 3,
        (SERVER, "dream states"): 2,
        (SERVER, "picture"): 2,
        (SERVER, "feedback"): 2,
    }
    assert [told.below(text) for text in texts] == [{(SERVER, "prefill"): 1}] * 3
    assert [told.below(picture) for picture in pictures] == [
        {(SERVER, "submit"): 1, (WORKER, "queue"): 1, (WORKER, "draw"): 1, (SERVER, "fetch"): 1}
    ] * 2
    assert [told.below(draw) for draw in draws] == [
        {(WORKER, "denoise"): 1, (WORKER, "decode"): 1, (WORKER, "store"): 1}
    ] * 2
    assert not any(span.failed for span in told.spans)


async def test_spans_say_what_they_are_of_and_nothing_of_what_was_said(told: Told) -> None:
    request, document = told.one("POST /v1/interleaved"), told.one("document")
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["dreamserve.request.id"] == f"request-{TRACE_ID[:4]}"
    assert document.attributes["dreamserve.document.id"] == told.document["id"]
    assert document.attributes["gen_ai.usage.output_tokens"] == told.document["usage"]["completion_tokens"]
    jobs = {span.attributes["dreamserve.image.job"] for span in told.spans if span.name in ("picture", "draw")}
    assert jobs == {f"{told.document['id']}-image-{n}" for n in range(2)}
    assert SAID not in str(told.spans)


async def test_a_caller_who_does_not_want_a_trace_gets_none(told: Told) -> None:
    assert told.unsampled == []


async def test_the_lines_of_server_and_worker_have_the_ids_of_request_and_trace(told: Told) -> None:
    for service, lines in told.lines.items():
        about = [line for line in lines if told.document["id"] in line["message"]]
        assert about, service
        assert {(line["request_id"], line["trace_id"]) for line in about} == {(f"request-{TRACE_ID[:4]}", TRACE_ID)}
        assert SAID not in str(lines)
