"""Whether a service takes documents."""

from enum import Enum


class State(Enum):
    """Where a service is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class UnavailableError(Exception):
    """The service takes no documents now.

    Attributes:
        reason: why: the state of the service, or ``"no_workers"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the server takes no requests: {reason}")
        self.reason = reason
