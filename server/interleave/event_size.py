"""What events take in memory."""

import dataclasses

from server.interleave.events import TextDelta

OBJECT_BYTES = 64  # what an object takes besides its content, about


def size_of(value: object) -> int:
    """Bytes that an event takes in memory, about: those of its pictures and texts, and something for each object."""
    if isinstance(value, TextDelta) and not value.logprobs:  # nearly all events are, and need no closer look
        return 3 * OBJECT_BYTES + len(value.text)
    if isinstance(value, bytes | str):
        return OBJECT_BYTES + len(value)
    if isinstance(value, tuple):
        return OBJECT_BYTES + sum(map(size_of, value))
    if dataclasses.is_dataclass(value):
        return OBJECT_BYTES + sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0
