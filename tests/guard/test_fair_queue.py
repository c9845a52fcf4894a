"""The fair queue: who is served, in which order, and who gives way."""

from collections import Counter

import pytest

from server.guard.fair_queue import FairQueue


def served(queue: FairQueue[str], count: int | None = None) -> list[str]:
    """Serve so many items, or all of them."""
    items = []
    while (item := queue.next()) is not None and (count is None or len(items) < count):
        queue.serve(item)
        items.append(item)
    return items


def filled(*callers: str, each: int, weights: dict[str, float] | None = None, cost: float = 1.0) -> FairQueue[str]:
    """A queue into which one caller after the other has put all that he has."""
    queue: FairQueue[str] = FairQueue()
    for caller in callers:
        for number in range(each):
            queue.push(f"{caller}{number}", caller, (weights or {}).get(caller, 1.0), cost)
    return queue


def test_one_callers_items_are_served_in_order_of_arrival() -> None:
    assert served(filled("a", each=4)) == ["a0", "a1", "a2", "a3"]


def test_callers_take_turns_whoever_came_first() -> None:
    assert served(filled("a", "b", each=3)) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_caller_with_a_thousand_items_does_not_starve_another() -> None:
    queue = filled("many", each=1000)
    served(queue, 100)
    queue.push("late", "few", 1.0, 1.0)

    assert "late" in served(queue, 2)


def test_a_caller_who_comes_now_and_then_is_served_at_once_each_time() -> None:
    queue = filled("many", each=1000)
    for number in range(50):
        served(queue, 7)
        queue.push(f"visit{number}", "few", 1.0, 1.0)
        assert f"visit{number}" in served(queue, 2)


def test_callers_are_served_by_their_weights() -> None:
    queue = filled("a", "b", "c", each=100, weights={"a": 1, "b": 2, "c": 5})
    counted = Counter(item[0] for item in served(queue, 80))

    assert counted == {"a": 10, "b": 20, "c": 50}


def test_large_items_count_for_more_than_small_ones() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.push(f"large{number}", "large", 1.0, 4.0)
        queue.push(f"small{number}", "small", 1.0, 1.0)
    counted = Counter(item[:5] for item in served(queue, 50))

    assert counted == {"large": 10, "small": 40}


def test_nobody_saves_up_turns_while_he_has_nothing_waiting() -> None:
    queue = filled("a", each=100)
    served(queue, 50)
    for number in range(10):
        queue.push(f"b{number}", "b", 1.0, 1.0)
    counted = Counter(item[0] for item in served(queue, 10))

    assert abs(counted["a"] - counted["b"]) <= 1


def test_who_took_more_than_was_expected_waits_for_it_later() -> None:
    queue = filled("a", "b", each=10)
    first = served(queue, 2)
    queue.charge("a", 1.0, 3.0)

    assert first == ["a0", "b0"]
    assert served(queue, 5) == ["b1", "b2", "b3", "a1", "b4"]


def test_who_took_less_gets_it_back() -> None:
    queue = filled("a", "b", each=10, cost=2.0)
    first = served(queue, 2)
    queue.charge("a", 1.0, -1.0)

    assert first == ["a0", "b0"]
    assert served(queue, 3) == ["a1", "b1", "a2"]


def test_items_that_may_not_be_served_now_let_others_pass_and_keep_their_turn() -> None:
    queue = filled("a", "b", each=2)
    passing = queue.next(lambda item: item != "a0")
    assert passing == "a1"
    queue.serve(passing)

    assert served(queue) == ["b0", "a0", "b1"]
    assert queue.next() is None


def test_what_is_removed_is_not_served() -> None:
    queue = filled("a", each=3)
    queue.remove("a1")

    assert len(queue) == 2
    assert served(queue) == ["a0", "a2"]
    with pytest.raises(KeyError):
        queue.remove("a1")


def test_the_latest_of_who_has_most_waiting_for_his_weight_gives_way() -> None:
    queue = filled("heavy", each=6, weights={"heavy": 3.0})
    for item in ("a", "b", "c"):
        queue.push(item, "light", 1.0, 1.0)

    assert queue.last_of_longest() == "c"
    queue.remove("c")
    queue.remove("b")
    assert queue.last_of_longest() == "heavy5"


def test_nothing_gives_way_in_an_empty_queue() -> None:
    assert FairQueue[str]().last_of_longest() is None


def test_callers_who_have_nothing_waiting_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.push(number, f"caller{number}", 1.0, 1.0)
        queue.serve(number)
        queue.push(-1 - number, "steady", 1.0, 1.0)
        queue.serve(-1 - number)

    assert len(queue._lines) < 10
