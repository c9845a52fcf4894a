"""Who asks: what a key stands for, and all that the rest of the server learns of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What one caller may do; None does not limit it.

    Attributes:
        requests: begun in a minute.
        tokens: of prompts and answers in a minute.
        images: drawn in a minute.
        streams: answers that are being made at one time, in one server process.
    """

    requests: int | None = None
    tokens: int | None = None
    images: int | None = None
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. It holds nothing of the key, so it can be logged and kept.

    Attributes:
        id: names the caller in logs and metrics, and owns the documents that he stores.
        weight: his share of the server while it is full, relative to the other callers'.
        limits: what he may do.
    """

    id: str
    weight: float = 1.0
    limits: CallerLimits = CallerLimits()


ANONYMOUS = Caller("anonymous")
"""Everybody, on a server that asks nobody for a key."""
