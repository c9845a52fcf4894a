"""The feedback benchmark, on real vLLM: both ways to go on are the same answer."""

import pytest

from load_tests.feedback.recomputed import measure
from load_tests.feedback.ways import Answers
from load_tests.results import Results
from server.llm.vllm_engine import VLLMEngine
from tests.shared_engine import BLOCK_SIZE

pytestmark = pytest.mark.vllm


async def test_a_parked_request_goes_on_with_the_token_of_one_that_is_sent_again(engine: VLLMEngine) -> None:
    again = await Answers(engine, seed=1).sent_again(length=64, others=0)
    parked = await Answers(engine, seed=1).parked(length=64, others=0)

    assert parked.next_token == again.next_token
    assert parked.computed == len(engine.config.dream_block) + 2 + engine.config.num_image_tokens


async def test_no_more_than_a_block_is_computed_again_after_a_picture(
    engine: VLLMEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results("feedback")
    await measure(results, engine, BLOCK_SIZE, documents=2)

    [goal] = results.goals
    assert (goal.name, goal.goal, goal.met) == ("feedback_recomputed_tokens_most", BLOCK_SIZE, True)
    assert "Tokens computed again" in capsys.readouterr().out
