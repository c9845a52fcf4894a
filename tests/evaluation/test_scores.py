"""What is counted: tallies, intervals, bars."""

import pytest

from server.evaluation.measures import MEASURES, SECTIONS
from server.evaluation.scores import Bar, Tally, total


# Newcombe 1998, table I, and Wilson's formula at its ends.
@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(right: int, of: int, low: float, high: float) -> None:
    assert Tally(right, of).interval == pytest.approx((low, high), abs=5e-5)


def test_nothing_has_no_rate_and_misses_every_bar() -> None:
    assert Tally().rate is None
    assert Tally().interval == (0.0, 1.0)
    for sense in ("at least", "above", "below"):
        assert Bar(0.5, sense).verdict(Tally()) == "missed"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bar", "below", "at", "above"),
    [
        (Bar(0.5), "missed", "met", "met"),
        (Bar(0.5, "above"), "missed", "missed", "met"),
        (Bar(0.5, "below"), "met", "missed", "missed"),
    ],
)
def test_a_bar_says_which_side_of_its_goal_is_good(bar: Bar, below: str, at: str, above: str) -> None:
    assert [bar.verdict(Tally(right, 4)) for right in (1, 2, 3)] == [below, at, above]


def test_tallies_add_up_by_measure() -> None:
    marks = [{"a": Tally(1, 2)}, {"a": Tally(0, 1), "b": Tally(1, 1)}]
    assert total(marks) == {"a": Tally(1, 3), "b": Tally(1, 1)}


def test_every_measure_has_a_name_of_its_own() -> None:
    assert len(MEASURES) == sum(map(len, SECTIONS.values()))
