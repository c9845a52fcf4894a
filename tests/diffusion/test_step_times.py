"""How long a step takes at batch sizes that were measured and at those that were not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.stats import EngineCounters
from models.diffusion.step_times import StepTimes

TIMES = StepTimes(((1, 0.1), (4, 0.16), (8, 0.32)))


def test_a_time_between_two_measurements_lies_on_the_line_between_them() -> None:
    assert [TIMES.seconds(batch) for batch in (1, 2, 4, 6, 8)] == pytest.approx([0.1, 0.12, 0.16, 0.24, 0.32])


def test_beyond_the_measurements_the_throughput_stays_that_of_the_biggest() -> None:
    assert TIMES.job_steps_per_s(32) == pytest.approx(TIMES.job_steps_per_s(8))


def test_a_batch_below_the_measurements_is_not_said_to_be_faster() -> None:
    assert StepTimes(((4, 0.2),)).seconds(1) == 0.2


def test_the_best_batch_is_the_smallest_that_has_nearly_all_of_the_throughput() -> None:
    assert TIMES.best_batch() == 4
    assert StepTimes(((1, 0.1), (2, 0.1), (4, 0.1))).best_batch() == 4
    assert StepTimes(((1, 0.1), (2, 0.196), (4, 0.5))).best_batch() == 1


def test_newer_measurements_take_the_place_of_older_ones_and_leave_the_others() -> None:
    assert TIMES.updated(StepTimes(((2, 0.3), (4, 0.5)))).measured == ((1, 0.1), (2, 0.3), (4, 0.5), (8, 0.32))
    assert TIMES.updated(None) == TIMES


@given(st.dictionaries(st.integers(1, 64), st.floats(1e-4, 10), min_size=1), st.integers(1, 100))
def test_an_inferred_time_lies_between_those_of_its_neighbours(seconds: dict[int, float], batch: int) -> None:
    times = StepTimes(tuple(sorted(seconds.items())))
    below = [size for size in seconds if size <= batch] or [min(seconds)]
    above = [size for size in seconds if size >= batch]
    if above:
        bounds = seconds[max(below)], seconds[min(above)]
        assert min(bounds) * (1 - 1e-9) <= times.seconds(batch) <= max(bounds) * (1 + 1e-9)
    else:
        assert times.seconds(batch) > seconds[max(below)]


@pytest.mark.parametrize(
    "measured",
    [(), ((0, 0.1),), ((2, 0.1), (2, 0.1)), ((2, 0.1), (1, 0.1)), ((1, 0.0),), ((1, -1.0),), ((1, math.nan),)],
)
def test_measurements_that_make_no_sense_are_refused(measured: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="step times"):
        StepTimes(measured)


def test_the_engines_own_times_are_medians_by_batch_size_for_pictures_of_the_default_size() -> None:
    counters = EngineCounters()
    assert counters.snapshot().step_times is None
    for seconds in (9.0, 0.2, 0.2):
        counters.stepped(batch=1, seconds=seconds)
    counters.stepped(batch=4, seconds=1.2, relative_area=2.0)
    assert counters.snapshot().step_times == StepTimes(((1, 0.2), (4, 0.6)))


def test_the_engines_own_times_follow_a_device_that_became_slower() -> None:
    counters = EngineCounters()
    for seconds in [0.1] * 100 + [0.5] * 20:
        counters.stepped(batch=2, seconds=seconds)
    assert counters.snapshot().step_times == StepTimes(((2, 0.5),))
