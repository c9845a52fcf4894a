"""What a journal is: stored documents, their events in order, and as many readers as want them."""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.interleave.events import DocumentEvent, DocumentFailed, Status
from server.interleave.running import Outlet

SERVER_LOST = "server_lost"
"""Code of the ``DocumentFailed`` that ends a document whose server process has died."""


class JournalError(Exception):
    """A stored document cannot be read, or not from there."""


class DocumentNotFoundError(JournalError):
    """There is no such document, or there is none any more."""

    def __init__(self, document_id: str) -> None:
        super().__init__(f"there is no stored document {document_id!r}, or none any more")


class JournalTruncatedError(JournalError):
    """The events that a reader asks for are not kept any more: the document outgrew what is kept of one."""

    def __init__(self, document_id: str) -> None:
        super().__init__(f"document {document_id!r} is too long: the events asked for are not kept any more")


class JournalUnavailableError(JournalError):
    """What the stored documents are kept in cannot be reached, or the server that makes one does not answer."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """How a document is to be stored.

    Attributes:
        surface: that it was asked for on, such as ``"interleaved"``; the others do not show it.
        request: what that surface wants to know of the request later, of JSON's types.
        background: whether it goes on for as long as it takes although nobody reads it.
    """

    surface: str
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    background: bool = False

    def request_json(self) -> bytes:
        """The request as it is kept. Takes long if there are pictures in it."""
        return json.dumps(self.request).encode()


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What is known of a stored document besides its events.

    Attributes:
        id: of the document.
        caller: id of the caller whose it is; it is shown to nobody else.
        surface: see :class:`StoreRequest`.
        request: likewise.
        background: likewise.
        created: Unix time in seconds.
        status: how far it is.
        first_kept: sequence number of the oldest event that is kept; 0 unless the document outgrew its bound.
    """

    id: str
    caller: str
    surface: str
    request: Mapping[str, Any] = field(repr=False)
    background: bool
    created: int
    status: Status
    first_kept: int = 0

    def require_kept(self, after: int | None) -> None:
        """Return if a reader who has seen the events up to ``after`` can go on; None has seen none.

        Raises:
            JournalTruncatedError: what comes next is not kept any more.
        """
        if first_wanted(after) < self.first_kept:
            raise JournalTruncatedError(self.id)


@dataclass(frozen=True, slots=True)
class Record:
    """What a journal keeps of a document besides its events, whatever becomes of it.

    Attributes:
        id: of the document.
        caller: see :class:`StoredDocument`.
        surface: see :class:`StoreRequest`.
        request: JSON.
        background: see :class:`StoreRequest`.
        created: Unix time in seconds.
    """

    id: str
    caller: str
    surface: str
    request: bytes = field(repr=False)
    background: bool
    created: int

    def stored(self, status: Status, first_kept: int) -> StoredDocument:
        """The record for readers. Reading its JSON takes long if there are pictures in it."""
        return StoredDocument(
            self.id,
            self.caller,
            self.surface,
            json.loads(self.request),
            self.background,
            self.created,
            status,
            first_kept,
        )


@dataclass(frozen=True, slots=True)
class JournalLoad:
    """How much a journal holds in this process.

    Attributes:
        documents: that it holds.
        bytes: that these take, about.
        mirror_lag_s: age of the oldest event that other processes cannot read yet; 0 where none could anyway.
    """

    documents: int
    bytes: int
    mirror_lag_s: float


class Journal(Protocol):
    """Keeps the stored documents, within bounds of bytes and time."""

    def open(self, record: Record) -> Outlet:
        """Where the events of a new document go."""

    async def follow(self, document_id: str, after: int | None) -> AsyncGenerator[DocumentEvent, None]:
        """The events of a document after a sequence number, up to its last; waits for those still to come.

        Raises:
            JournalError: there is no such document; from the generator, the next event cannot be read now, or at all.
        """

    async def events_so_far(self, document_id: str) -> list[DocumentEvent]:
        """All events up to now.

        Raises:
            JournalError: they cannot be read.
        """

    async def stored(self, document_id: str) -> StoredDocument:
        """What is known of a document.

        Raises:
            JournalError: that is nothing.
        """

    async def cancel(self, document_id: str) -> None:
        """End a document, and return when its last event can be read. Nothing happens to one that has ended.

        Raises:
            JournalError: there is no such document, or the process that makes it does not answer.
        """

    async def delete(self, document_id: str) -> None:
        """Forget a document that has ended.

        Raises:
            JournalError: there is no such document, it has not ended, or the process that made it does not answer.
        """

    def release_readers(self) -> None:
        """End the reading of documents that other processes make: this one stops, and readers can go on elsewhere."""

    def load(self) -> JournalLoad:
        """How much it holds."""


def first_wanted(after: int | None) -> int:
    """Sequence number of the first event for a reader who has seen those up to ``after``; None has seen none."""
    return 0 if after is None else after + 1


def was_lost(event: DocumentEvent) -> bool:
    """Whether the process that made the document has died. Events that nobody else has may be missing before this."""
    return isinstance(event, DocumentFailed) and event.code == SERVER_LOST
