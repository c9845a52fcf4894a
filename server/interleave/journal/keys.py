"""How a journal lies in Redis: the names of its keys, and its records and events in them.

Of each document there is a hash, its record, and a stream of its events. The entry of the event with sequence number n
has the id ``<n+1>-0`` (Redis has no 0-0), so no event can be there twice, or in another order. Every key has a time to
live; names hold the version of the codec, so that nobody reads what only others understand.
"""

import re
from dataclasses import dataclass

from redis.typing import EncodableT, FieldT

from server.interleave.events import DocumentEvent
from server.interleave.journal.base import Record
from server.interleave.journal.codec import CODEC_VERSION, decode_event

DOCUMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""Ids that documents may have: callers name them, and they become part of a key."""

Entry = tuple[bytes, dict[bytes, bytes]]
Fields = dict[FieldT, EncodableT]
EVENT_FIELD = b"event"


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the keys of a journal. Those of one document share a hash tag, so that a cluster keeps them together.

    Attributes:
        namespace: sets apart what shares a Redis.
    """

    namespace: str

    def record(self, document_id: str) -> str:
        """Hash of what is known of a document."""
        return self._name("document", document_id, "record")

    def events(self, document_id: str) -> str:
        """Stream of its events."""
        return self._name("document", document_id, "events")

    def of_document(self, document_id: str) -> tuple[str, str]:
        """All keys of a document."""
        return self.record(document_id), self.events(document_id)

    def alive(self, server_id: str) -> str:
        """There as long as a server process lives."""
        return self._name("server", server_id, "alive")

    def requests(self, server_id: str) -> str:
        """List of what other processes want of its documents."""
        return self._name("server", server_id, "requests")

    def _name(self, kind: str, id: str, what: str) -> str:
        return f"{{{self.namespace}:{kind}:{id}}}:v{CODEC_VERSION}:{what}"


def record_fields(record: Record, owner: str) -> Fields:
    """The hash of a record.

    Args:
        record: what is known of the document.
        owner: id of the server process that makes it.
    """
    return {
        "caller": record.caller,
        "surface": record.surface,
        "request": record.request,
        "background": int(record.background),
        "created": record.created,
        "owner": owner,
    }


def read_record(document_id: str, fields: dict[bytes, bytes]) -> Record:
    """The reverse of :func:`record_fields`."""
    return Record(
        id=document_id,
        caller=fields[b"caller"].decode(),
        surface=fields[b"surface"].decode(),
        request=fields[b"request"],
        background=fields[b"background"] == b"1",
        created=int(fields[b"created"]),
    )


def entry_id(sequence: int) -> str:
    """Id of the entry of an event."""
    return f"{sequence + 1}-0"


def entry_sequence(id: bytes) -> int:
    """The reverse of :func:`entry_id`."""
    return int(id.partition(b"-")[0]) - 1


def entry_fields(data: bytes) -> Fields:
    """The entry of an encoded event."""
    return {EVENT_FIELD: data}


def read_entry(entry: Entry) -> DocumentEvent:
    """The event of an entry.

    Raises:
        CodecError: there is none in it.
    """
    _, fields = entry
    return decode_event(fields.get(EVENT_FIELD, b""))
