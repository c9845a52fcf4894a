"""What the making of one document may take of others, and the error of a document that goes beyond it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MakingLimits:
    """How long and how much.

    Attributes:
        image_timeout_s: seconds that one picture may take, its wait in the queue included.
        pool_behind_s: seconds of work ahead of the pool past which it has fallen behind; see
            :attr:`~server.interleave.document.ImageParams.on_overload`.
        unread_bytes: of events that its reader has not taken.
        wait_for_workers: whether a pool without workers has not fallen behind, for it gets some when it has work.
    """

    image_timeout_s: float = 300.0
    pool_behind_s: float = 120.0
    unread_bytes: int = 64 * 2**20
    wait_for_workers: bool = False


DEFAULT_LIMITS = MakingLimits()


class DocumentError(Exception):
    """The document cannot go on, for a reason that its reader is told.

    Attributes:
        code: short and stable, for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
