"""A thread that works through a queue."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """Handles items in their order, those next to each other together where they are alike.

    Args:
        name: of the thread.
        handle: is called on the thread with one or more items.
        on_crash: is called on the thread with what ``handle`` raised; the stage has stopped then.
        limit: items of one call at most.
        alike: whether two items may be handled in one call.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[Item]], None],
        on_crash: Callable[[BaseException], None],
        *,
        limit: int = 1,
        alike: Callable[[Item, Item], bool] = lambda _, __: True,
    ) -> None:
        self._handle = handle
        self._on_crash = on_crash
        self._limit = limit
        self._alike = alike
        self._items: deque[Item] = deque()
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Add an item to the queue; it has no bound of its own."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def stop(self) -> None:
        """Stop after the call in progress; what is still queued is dropped."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def join(self) -> None:
        """Block until the thread has ended."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._handle(batch)
        except BaseException as error:  # the boundary of the thread: whoever owns the stage must know
            self._on_crash(error)

    def _next_batch(self) -> list[Item]:
        """Wait for items; none when stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._stopped)
            batch: list[Item] = []
            while self._items and not self._stopped and len(batch) < self._limit:
                if batch and not self._alike(batch[0], self._items[0]):
                    break
                batch.append(self._items.popleft())
            return batch
