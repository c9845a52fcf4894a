"""The frozen heap: what lived is left alone, and collected in the end."""

import gc
import weakref

from server.heap import collect_all, freeze_heap


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_frozen_is_collected_at_the_end_and_what_came_later_at_once() -> None:
    old = Knot()
    before = weakref.ref(old)
    freeze_heap()
    try:
        after = weakref.ref(Knot())
        del old
        gc.collect()
        assert before() is not None
        assert after() is None
    finally:
        collect_all()
    assert before() is None
    assert gc.get_freeze_count() == 0
