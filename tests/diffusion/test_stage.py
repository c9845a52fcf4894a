"""Threads that work through queues."""

import threading
from queue import SimpleQueue

import pytest

from models.diffusion.stage import Stage

PATIENCE_S = 60


@pytest.fixture
def crashes() -> SimpleQueue[BaseException]:
    return SimpleQueue()


def test_items_keep_their_order_and_neighbours_that_are_alike_go_together(
    crashes: SimpleQueue[BaseException],
) -> None:
    batches: SimpleQueue[list[str]] = SimpleQueue()
    stage: Stage[str] = Stage("test", batches.put, crashes.put, limit=3, alike=lambda a, b: a[0] == b[0])
    for item in ["a1", "a2", "b1", "a3", "a4", "a5", "a6"]:
        stage.put(item)
    stage.start()
    handled = [batches.get(timeout=PATIENCE_S) for _ in range(4)]
    stage.stop()
    stage.join()
    assert handled == [["a1", "a2"], ["b1"], ["a3", "a4", "a5"], ["a6"]]
    assert crashes.empty()


def test_stopping_drops_what_is_still_queued(crashes: SimpleQueue[BaseException]) -> None:
    entered, go_on = threading.Event(), threading.Event()
    handled: list[list[int]] = []

    def handle(batch: list[int]) -> None:
        handled.append(batch)
        entered.set()
        assert go_on.wait(PATIENCE_S)

    stage: Stage[int] = Stage("test", handle, crashes.put)
    stage.start()
    stage.put(1)
    stage.put(2)
    assert entered.wait(PATIENCE_S)
    stage.stop()
    go_on.set()
    stage.join()
    assert handled == [[1]]
    assert crashes.empty()


def test_a_crash_is_told_to_the_owner(crashes: SimpleQueue[BaseException]) -> None:
    def handle(batch: list[int]) -> None:
        raise SystemExit(batch[0])

    stage: Stage[int] = Stage("test", handle, crashes.put)
    stage.start()
    stage.put(7)
    assert crashes.get(timeout=PATIENCE_S).args == (7,)
    stage.join()


def test_a_stage_that_never_started_can_be_joined(crashes: SimpleQueue[BaseException]) -> None:
    stage: Stage[int] = Stage("test", lambda _: None, crashes.put)
    stage.stop()
    stage.join()
    assert crashes.empty()
