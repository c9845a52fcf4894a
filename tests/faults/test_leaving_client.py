"""The client leaves, whatever its answer is doing: nothing of it is left in vLLM, in Redis, or in a worker."""

import pytest

from server.llm.vllm_engine import VLLMEngine
from tests.faults.answer import pictures
from tests.faults.stage import STATES, OpenStage, Reach, check_nothing_runs
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("reach", STATES.values(), ids=STATES)
async def test_nothing_is_left_of_an_answer_whose_client_has_gone(
    reach: Reach, open_stage: OpenStage, engine: VLLMEngine, fleet: Fleet, line: Line
) -> None:
    worker = await fleet.start()
    async with open_stage() as stage:
        answer = await reach(stage)
        id = await answer.id()
        await answer.leave()
        stage.vllm.thaw()
        await eventually(lambda: id not in {document.id for document in stage.service.documents})

        async def its_job_is_gone() -> bool:
            return not any(job.startswith(id) for job in await line.open_jobs())

        await eventually(its_job_is_gone)
        stage.let_go()
        await eventually(lambda: not stage.service.documents)
        await line.until_empty()
        await worker.lets_go()
        await check_nothing_runs(engine)
        drawn = await worker.metric("dreamserve_worker_jobs_ended_total", outcome="completed")
        assert drawn == sum(len(pictures(answer.events)) for answer in stage.answers)
