"""SIGTERM to the server as a supervisor sends it: its exit code says that all went well."""

from pathlib import Path

from tests.faults.answer import Answer, error_of
from tests.faults.server_process import PATIENT, running_server
from tests.faults.stage import DRAW
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = PATIENT


async def test_a_server_finishes_answers_after_a_sigterm_ends_the_rest_after_another_and_exits_with_0(
    server_settings: dict[str, object], fleet: Fleet, line: Line, tmp_path: Path
) -> None:
    await fleet.start()
    settings = server_settings | {"SERVER__SHUTDOWN_GRACE_S": 3600}
    async with running_server(tmp_path / "server.log", **settings) as server:
        await eventually(server.is_ready)
        fleet.brake.hold()
        held = Answer(server.client, DRAW)
        await held.until("image.progress")
        server.vllm.freeze()
        writing = Answer(server.client, {**DRAW, "images": {"max": 0}})
        await writing.until("document.started")
        server.terminate()

        async def is_draining() -> bool:
            return not await server.is_ready()

        await eventually(is_draining)
        server.vllm.thaw()
        assert (await writing.document())[-1].event == "document.completed"
        assert await server.status("/health/live") == 200
        refused = await server.client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_draining")
        server.terminate()
        assert error_of(await held.document()) == "shutdown"
        assert await server.exit_code() == 0
    fleet.brake.release()
    await line.until_empty()
