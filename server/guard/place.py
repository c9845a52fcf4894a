"""The place of one document among those at work: what it was promised, and what of that it has used."""

import asyncio
from collections.abc import Callable

from server.guard.caller import Caller
from server.guard.demand import Demand, Share
from server.interleave.events import DocumentCompleted, DocumentEvent, ImageQueued, Usage, is_last


class Place:
    """What is promised to one document that was admitted, until its last event or until it is closed.

    Args:
        caller: whose it is.
        demand: what it asks for.
        share: what is promised.
        close: told when it is closed, with what the document has cost.

    Attributes:
        caller: whose it is.
        demand: what it asks for.
        share: what was promised.
        image_steps: what is still promised for pictures that are not queued; see :class:`Share`.
        images: queued so far.
        admitted: time of the event loop.
        completed: whether the document has ended well.
        closed: whether what was promised has been given back.
    """

    def __init__(self, caller: Caller, demand: Demand, share: Share, close: Callable[["Place", Usage], None]) -> None:
        self.caller = caller
        self.demand = demand
        self.share = share
        self.image_steps = share.image_steps
        self.images = 0
        self.admitted = asyncio.get_running_loop().time()
        self.completed = False
        self.closed = False
        self._close = close

    def observe(self, event: DocumentEvent) -> None:
        """Learn from an event of the document, when it is made: how long its reader takes for it is his own affair."""
        match event:
            case ImageQueued():
                self.images += 1
                self.image_steps = max(0.0, self.image_steps - self.demand.image_steps)
            case DocumentCompleted():
                self.completed = True
        if is_last(event):
            self.close(event.usage)

    def close(self, usage: Usage) -> None:
        """Give back what was promised, and tell what the document has cost. Only the first time."""
        if not self.closed:
            self.closed = True
            self._close(self, usage)
