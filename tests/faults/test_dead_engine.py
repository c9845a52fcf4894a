"""vLLM's engine process is killed: callers are told in the words of their surface, and the server ends, to be started
anew."""

import json
from pathlib import Path
from typing import Any

import httpx

from server.availability import State
from tests.api.serving import on_socket
from tests.faults.answer import Answer, error_of, pictures
from tests.faults.server_process import PATIENT, running_server
from tests.faults.stage import DRAW
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = PATIENT

QUESTION: dict[str, dict[str, Any]] = {
    "/v1/interleaved": {"input": "Draw a red circle."},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Draw a red circle."}]},
    "/v1/responses": {"input": "Draw a red circle."},
    "/v1/images/generations": {"prompt": "a red circle"},
}
"""What each surface is asked."""


async def test_the_death_of_the_engine_is_told_on_every_surface_and_ends_the_server(
    server_settings: dict[str, object], fleet: Fleet, line: Line, tmp_path: Path
) -> None:
    await fleet.start()
    async with running_server(tmp_path / "server.log", **server_settings) as server:
        await eventually(server.is_ready)
        fleet.brake.hold()
        drawn = Answer(server.client, {**DRAW, "images": {"max": 1}})
        await drawn.until("image.progress")
        server.vllm.freeze()
        native, chat, responses, images = [Answer(server.client, body, path) for path, body in QUESTION.items()]
        for answer in (native, chat, responses, images):
            await answer.accepted()
        server.vllm.kill()

        assert error_of(await native.document()) == "engine_unavailable"
        assert json.loads((await chat.ended())[-1].data)["error"]["code"] == "engine_unavailable"
        failed = (await responses.ended())[-1]
        assert (failed.event, failed.json()["response"]["error"]["code"]) == ("response.failed", "server_error")
        failed = (await images.ended())[-1]
        assert (failed.event, failed.json()["error"]["code"]) == ("error", "engine_unavailable")

        # A picture is still drawn, so the server is still there.
        assert [await server.status(f"/health/{probe}") for probe in ("ready", "live")] == [503, 503]
        for path, body in QUESTION.items():
            check_unavailable(await server.client.post(path, json=body))
        fleet.brake.release()
        events = await drawn.document()
        assert len(pictures(events)) == 1
        assert error_of(events) == "engine_unavailable"
        assert await server.exit_code() == 1
    await line.until_empty()


def check_unavailable(response: httpx.Response) -> None:
    """Fail unless a response says in OpenAI's shape that another server should be asked."""
    assert response.status_code == 503
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "server_failed"
    assert int(response.headers["retry-after"]) > 0


async def test_a_server_without_documents_whose_pool_has_died_ends_at_once() -> None:
    async with on_socket() as app:
        app.pool.dead = True
        await app.serving
    assert app.service.state is State.FAILED
