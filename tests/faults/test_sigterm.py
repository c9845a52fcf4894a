"""SIGTERM, whatever the answers are doing: readiness falls at once, and every stream has a last event."""

import os
import signal

import pytest

from server.availability import State
from server.llm.vllm_engine import VLLMEngine
from tests.faults.answer import error_of
from tests.faults.stage import DRAW, STATES, OpenStage, Reach, Stage, check_nothing_runs
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = pytest.mark.vllm

in_every_state = pytest.mark.parametrize("reach", STATES.values(), ids=STATES)


async def terminate(stage: Stage) -> None:
    """Send the signal, and wait until it has been heard."""
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: stage.service.state is State.DRAINING)


@in_every_state
async def test_an_answer_is_finished_within_the_grace_time_and_others_are_refused(
    reach: Reach, open_stage: OpenStage, fleet: Fleet, line: Line
) -> None:
    await fleet.start()
    async with open_stage(server={"shutdown_grace_s": 3600}) as stage:
        await reach(stage)
        await terminate(stage)
        ready, live = [(await stage.client.get(f"/health/{probe}")).status_code for probe in ("ready", "live")]
        refused = await stage.client.post("/v1/interleaved", json=DRAW)
        stage.let_go()
        ends = [(await answer.document())[-1].event for answer in stage.answers]
        await stage.serving

    assert (ready, live) == (503, 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_draining")
    assert set(ends) == {"document.completed"}
    await line.until_empty()


@in_every_state
async def test_an_answer_ends_with_an_error_event_when_the_grace_is_over_and_nothing_is_left_of_it(
    reach: Reach, open_stage: OpenStage, engine: VLLMEngine, fleet: Fleet, line: Line
) -> None:
    worker = await fleet.start()
    async with open_stage(server={"shutdown_grace_s": 0}) as stage:
        await reach(stage)
        await terminate(stage)
        stage.vllm.thaw()
        codes = {error_of(await answer.document()) for answer in stage.answers}
        await stage.serving

    assert codes == {"shutdown"}
    await line.until_empty()
    await worker.lets_go()
    await check_nothing_runs(engine)
