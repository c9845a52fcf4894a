"""A real Redis for the journal, and server processes that share it."""

import pytest


@pytest.fixture(autouse=True)
def time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a new document gets to Redis in time."""
    monkeypatch.setattr("server.interleave.journal.remote.BEGIN_S", 20.0)
