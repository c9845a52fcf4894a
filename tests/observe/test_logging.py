"""Log lines: of one request they share its ids, in the server and where it is drawn for; what was said is in none."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from server.observe.logging import JSONFormatter, TextFormatter, request_id
from server.pool.base import RenderError
from tests.api.serving import in_memory, scripted_engine
from tests.observe.log_lines import logged
from tests.pool.deployment import Deployment
from tests.pool.rendering import rendered
from tests.redis_server import RedisServer
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import DREAM, EOS
from tests.tiny_diffusion import make_render_job, random_decoder

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
HEADERS = {"X-Request-Id": "the-request", "traceparent": TRACEPARENT}
FORMATTERS = [TextFormatter(), JSONFormatter()]

ASKED, ANSWERED = "xq-asked-canary", "xq-answered-canary"
PICTURE = f"data:image/png;base64,{base64.b64encode(ASKED.encode()).decode()}"
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("/v1/interleaved", {"input": ASKED}),
    "stream": ("/v1/interleaved", {"input": ASKED, "stream": True}),
    "stored": ("/v1/interleaved", {"input": ASKED, "store": True}),
    "negative prompt": ("/v1/interleaved", {"input": "a", "images": {"negative_prompt": ASKED}}),
    "stop string": ("/v1/interleaved", {"input": "a", "stop": [ASKED]}),
    "no picture": ("/v1/interleaved", {"input": [{"type": "image_url", "image_url": {"url": PICTURE}}]}),
    "foreign picture": (
        "/v1/interleaved",
        {"input": [{"type": "image_url", "image_url": {"url": f"https://example.com/{ASKED}.png"}}]},
    ),
    "wrong type": ("/v1/interleaved", {"input": {"a": ASKED}}),
    "wrong value": ("/v1/interleaved", {"input": "a", "temperature": ASKED}),
    "unknown field": ("/v1/interleaved", {"input": ASKED, ASKED: ASKED}),
    "too long": ("/v1/interleaved", {"input": ASKED * 1000}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": ASKED}]}),
    "system": ("/v1/chat/completions", {"messages": [{"role": "system", "content": ASKED}]}),
    "no role": ("/v1/chat/completions", {"messages": [{"role": ASKED, "content": ASKED}]}),
    "response": ("/v1/responses", {"input": ASKED, "instructions": ASKED}),
    "image": ("/v1/images/generations", {"prompt": ASKED}),
    "no image": ("/v1/images/generations", {"prompt": ASKED, "size": ASKED}),
}


@pytest.mark.parametrize("formatter", FORMATTERS)
async def test_the_lines_of_a_request_have_its_ids(formatter: logging.Formatter) -> None:
    with logged(formatter, "server") as lines:
        async with in_memory(scripted_engine(["my answer", EOS])) as app:
            await app.ready()
            await app.client.post("/v1/interleaved", json={"input": "my question"}, headers=HEADERS)

    about = [line for line in lines if "doc_" in line or "POST" in line]
    assert len(about) == 2
    assert all("the-request" in line and TRACE_ID in line for line in about)


@pytest.mark.parametrize("fault", [None, RuntimeError("no"), RenderError("render_failed", "no")])
async def test_what_is_said_is_in_no_line_of_any_library_at_any_level(fault: Exception | None) -> None:
    turns = [["I draw.", DREAM], [ANSWERED, EOS]] * len(REQUESTS)
    scripts = [drawing, *([drawing if fault is None else [fault]] * len(REQUESTS))]  # the first is the warm-up's
    with logged(JSONFormatter()) as lines:
        async with in_memory(scripted_engine(*turns), ScriptedPool(scripts)) as app:
            await app.ready()
            statuses = {
                name: (await app.client.post(path, json=body)).status_code for name, (path, body) in REQUESTS.items()
            }

    assert {statuses[name] for name in ("text", "stream", "stored", "chat", "response")} <= {200, 500}
    assert {statuses[name] for name in ("no picture", "wrong type", "unknown field", "too long", "no role")} == {400}
    assert all(any(path in line for line in lines) for path, _ in REQUESTS.values())
    assert not [line for line in lines if ASKED in line or PICTURE[22:] in line or ANSWERED in line]


async def test_what_is_said_is_logged_where_an_operator_asks_for_it() -> None:
    body = {"input": ASKED, "images": {"negative_prompt": "rain"}}
    with logged(TextFormatter(), "server") as lines:
        async with in_memory(scripted_engine(["Look: ", DREAM], [ANSWERED, EOS]), log={"contents": True}) as app:
            await app.ready()
            await app.client.post("/v1/interleaved", json=body, headers=HEADERS)
            await app.client.post("/v1/images/generations", json={"prompt": ASKED})

    said = [line for line in lines if " was asked: " in line or " answered: " in line]
    assert [line.partition(": ")[2] for line in said] == [
        f"user: {ASKED}\\nnot drawn: rain",
        f"Look: [picture 64x64]{ANSWERED}",
        ASKED,
        "[picture 64x64]",
    ]
    assert all("the-request" in line for line in said[:2])


@pytest.fixture
def undrawable(monkeypatch: pytest.MonkeyPatch) -> DiffusionDecoder:
    """A decoder that fails in the thread of the engine."""
    decoder = random_decoder()

    def fail(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("there is no picture of this")

    monkeypatch.setattr(decoder, "predict", fail)
    return decoder


async def drawn_for(request: str, draw: Callable[[], Any]) -> None:
    """Have a picture drawn for a request."""
    request_id.set(request)
    await draw()


async def test_the_lines_of_a_worker_have_the_id_of_the_request_that_it_draws_for(undrawable: DiffusionDecoder) -> None:
    with RedisServer() as redis, logged(JSONFormatter()) as lines:
        async with Deployment(redis.url, "lines", random_decoder()) as deployment:
            await deployment.worker(decoder=undrawable)
            pool = await deployment.server()

            async def draw(job_id: str) -> None:
                with pytest.raises(RenderError):
                    await rendered(pool, make_render_job(job_id))

            ids = ("one", "two")
            await asyncio.gather(*(drawn_for(f"request-{id}", lambda id=id: draw(f"job-{id}")) for id in ids))

    for id in ids:
        about = [json.loads(line) for line in lines if f"job-{id}" in line]
        assert {line["logger"] for line in about} == {"models.diffusion.open_jobs", "server.pool.worker.worker"}
        assert {line["request_id"] for line in about} == {f"request-{id}"}


def test_a_json_line_is_one_line_even_with_a_traceback() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "failed: %s", ("x\ny",), (type(error), error, None))

    line = JSONFormatter().format(record)

    assert "\n" not in line
    assert json.loads(line)["message"] == "failed: x\ny"
    assert "ValueError" in json.loads(line)["exception"]


async def test_a_path_writes_no_line_of_its_own_and_moves_no_cursor() -> None:
    with logged(TextFormatter(), "server") as lines:
        async with in_memory(scripted_engine()) as app:
            await app.ready()
            await app.client.get("/v1/models/a%0d%0a12:00:00 INFO forged%1b[2J")

    assert any(r"/v1/models/a\r\n12:00:00 INFO forged\x1b[2J 404" in line for line in lines)
    assert all(line.isprintable() for line in lines)
