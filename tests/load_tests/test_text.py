"""The benchmark of the text path, with one server that stands for both."""

import pytest

from load_tests.results import Results
from load_tests.service.deployment import Deployment
from load_tests.text.__main__ import CONCURRENCIES, OURS, THEIRS, Scale, Slices, measure, tell
from load_tests.text.callers import OUTPUT_TOKENS
from load_tests.text.servers import Server

EACH = {1: 1, 8: 1, 32: 1}


@pytest.fixture(scope="module")
def slices(scripted: Deployment) -> Slices:
    server = Server(scripted.url, scripted.processes()["server"])
    return measure({OURS: server, THEIRS: server}, Scale(rounds=1, each=EACH))


def test_every_answer_of_a_slice_is_whole_and_timed(slices: Slices) -> None:
    assert set(slices) == {(name, concurrency) for name in (OURS, THEIRS) for concurrency in CONCURRENCIES}
    for (_, concurrency), [measured] in slices.items():
        seen = measured.seen
        assert seen.tokens == OUTPUT_TOKENS * concurrency * EACH[concurrency]
        assert len(seen.first_tokens) == concurrency * EACH[concurrency]
        assert min(seen.first_tokens) > 0
        assert len(seen.gaps) >= len(seen.first_tokens)
        assert max(seen.first_tokens) + max(seen.gaps) <= seen.seconds
    # A slice may take less than a tick of the clock of processes.
    assert sum(measured.cpu_s for [measured] in slices.values()) > 0


def test_a_goal_stands_for_every_ratio(slices: Slices) -> None:
    results = Results("text")
    tell(results, slices)
    goals = {goal.name: goal for goal in results.goals}
    assert len(goals) == len(CONCURRENCIES) * 5
    ours, theirs = (slices[name, 8][0].seen for name in (OURS, THEIRS))
    throughput = goals["text_throughput_to_vllm_serve_at_8"]
    assert throughput.value == pytest.approx((ours.tokens / ours.seconds) / (theirs.tokens / theirs.seconds))
    assert (throughput.goal, throughput.bound) == (0.98, "at least")
    assert goals["text_inter_token_p99_to_vllm_serve_at_32"].bound == "at most"
