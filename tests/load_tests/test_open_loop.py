"""The open-loop benchmark: what its closed loop counts as the rate that the server can keep up."""

import pytest

from load_tests.open_loop.callers import Answer, Seen, closed_loop, timed
from load_tests.service.deployment import Deployment


def answered(due: float, end: float, *, well: bool = True) -> Answer:
    return Answer(due, 200, first_token=0.1, first_picture=None, whole=end - due, ended=well)


def test_the_rate_is_that_between_the_first_answers_and_the_last_callers() -> None:
    # Two callers, each answered after two seconds; the first two answers are late, and the last two take their time.
    ends = [(0, 9.0), (0, 10.0), (9, 11.0), (10, 12.0), (11, 13.0), (12, 14.0), (13, 20.0), (14, 30.0)]
    seen = Seen(30.0, [answered(due, end) for due, end in ends])
    assert seen.steady_rate(concurrency=2) == pytest.approx(1.0)


def test_a_caller_who_was_not_answered_well_makes_the_rate_an_error() -> None:
    seen = Seen(4.0, [answered(0, 1 + number, well=number != 2) for number in range(4)])
    with pytest.raises(RuntimeError, match="not all callers"):
        seen.steady_rate(concurrency=1)


async def test_callers_of_a_closed_loop_tell_when_they_asked(scripted: Deployment) -> None:
    seen = await timed(closed_loop(scripted.url, concurrency=2, count=8, seed=0))
    dues = [answer.due for answer in seen.answers]
    assert len(dues) == 8
    assert 0 <= min(dues) < max(dues) < seen.seconds
    assert all(answer.due + answer.whole <= seen.seconds for answer in seen.answers)
    assert seen.steady_rate(concurrency=2) > 0
