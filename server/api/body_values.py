"""How many values a request body may hold, however few bytes they are written in."""

from typing import Any

MOST_VALUES = 20_000
"""More would take longer to check, one by one, than an event loop may stand still. The parts that a request may have by
default are a tenth of that."""

MOST_MARKS = 50 * MOST_VALUES
"""Commas and brackets between values; what has more takes too long even to read. They count in texts too, but a text of
so many fits into no context."""

UNREAD = frozenset({"annotations", "logprobs"})
"""Fields of earlier answers that come back with them and are not looked at."""


def has_too_many_marks(body: bytes) -> bool:
    """Whether JSON that has not been read yet may hold far more values than are checked."""
    return sum(map(body.count, (b",", b"[", b"{"))) > MOST_MARKS


def has_too_many_values(body: Any) -> bool:
    """Whether a JSON value holds more values than are checked. Looks at no more of them than that."""
    held, unopened = 1, [body]
    while unopened:
        opened = unopened.pop()
        held += len(opened) if isinstance(opened, dict | list) else 0
        if held > MOST_VALUES:
            return True
        if isinstance(opened, dict):
            unopened += [value for field, value in opened.items() if field not in UNREAD]
        elif isinstance(opened, list):
            unopened += opened
    return False
