"""Callers of the open loop come at the rate that was asked for, each on his own or together."""

from itertools import pairwise

import pytest

from load_tests.open_loop.arrivals import BURST, Pattern, arrivals

COUNT = 4000


@pytest.mark.parametrize("pattern", ["poisson", "bursts"])
def test_the_mean_rate_is_the_one_asked_for(pattern: Pattern) -> None:
    *_, last = arrivals(pattern, rate=5.0, count=COUNT, seed=0)
    assert COUNT / last == pytest.approx(5.0, rel=0.1)


def test_by_a_poisson_process_the_gaps_spread_as_much_as_their_mean() -> None:
    gaps = [later - sooner for sooner, later in pairwise(arrivals("poisson", 5.0, COUNT, seed=0))]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.1)


def test_a_burst_comes_at_one_moment() -> None:
    times = list(arrivals("bursts", rate=5.0, count=10 * BURST, seed=0))
    assert [len(set(times[at : at + BURST])) for at in range(0, len(times), BURST)] == [1] * 10
    assert len(set(times)) == 10


@pytest.mark.parametrize("pattern", ["poisson", "bursts"])
def test_a_seed_gives_the_same_times_again(pattern: Pattern) -> None:
    assert list(arrivals(pattern, 5.0, 50, seed=3)) == list(arrivals(pattern, 5.0, 50, seed=3))
    assert list(arrivals(pattern, 5.0, 50, seed=3)) != list(arrivals(pattern, 5.0, 50, seed=4))
