"""Redis is away in the middle of an answer: it waits, others are refused as far as they want pictures, and nobody has
to start anything again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.faults.answer import Answer, pictures, text
from tests.faults.server_process import PATIENT, ServerProcess
from tests.faults.stage import DRAW, OpenStage
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually
from tests.redis_server import RedisServer

pytestmark = PATIENT

TEXT_ALONE = {**DRAW, "images": {"max": 0}}


@asynccontextmanager
async def away(redis_server: RedisServer, *, keep_data: bool = True) -> AsyncIterator[None]:
    """A Redis that is stopped, and started again on the same port."""
    await asyncio.to_thread(redis_server.stop)
    try:
        yield
    finally:
        again = redis_server.start if keep_data else lambda: redis_server.restart(keep_data=False)
        await asyncio.to_thread(again)


@pytest.mark.parametrize("keep_data", [True, False], ids=["with its data", "empty"])
async def test_an_answer_outlasts_a_redis_that_is_started_again_and_meanwhile_pictures_are_refused(
    keep_data: bool, server: ServerProcess, fleet: Fleet, line: Line, redis_server: RedisServer
) -> None:
    await fleet.start()
    await eventually(server.is_ready)
    undisturbed = await Answer(server.client, DRAW).document()
    fleet.brake.hold()
    answer = Answer(server.client, DRAW)
    await answer.until("image.progress")

    async def noticed() -> bool:
        return not await server.is_ready()

    async with away(redis_server, keep_data=keep_data):
        await eventually(noticed)
        refused = await server.client.post("/v1/interleaved", json=DRAW)
        assert (await Answer(server.client, TEXT_ALONE).document())[-1].event == "document.completed"
        assert await server.status("/health/live") == 200
    fleet.brake.release()
    events = await answer.document()
    await eventually(server.is_ready)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_no_workers")
    assert int(refused.headers["retry-after"]) > 0
    for document in (events, await Answer(server.client, DRAW).document()):
        assert document[-1].event == "document.completed"
        assert text(document) == text(undisturbed)
        assert [image["b64_json"] for image in pictures(document)] == [
            image["b64_json"] for image in pictures(undisturbed)
        ]
    await line.until_empty()


@pytest.mark.vllm
async def test_a_picture_that_has_waited_too_long_for_redis_fails_and_the_text_goes_on(
    open_stage: OpenStage, redis_settings: dict[str, Any], fleet: Fleet, line: Line, redis_server: RedisServer
) -> None:
    worker = await fleet.start()
    async with open_stage(redis={**redis_settings, "patience_s": 0.1}) as stage:
        answer = await stage.rendering()
        async with away(redis_server):
            names = [event.event for event in await answer.document()]
        [failed] = [event for event in answer.events if event.event == "image.failed"]
        stage.let_go()
        await worker.lets_go()
        await stage.ready()
        again = await stage.ask(DRAW).document()

    assert failed.json()["error"]["code"] == "unavailable"
    assert "text.delta" in names[names.index("image.failed") :]
    assert names[-1] == again[-1].event == "document.completed"
    assert len(pictures(again)) == 1
    await line.until_empty()
