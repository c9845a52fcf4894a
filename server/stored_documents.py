"""What callers may do with stored documents: each with his own, on the surface that he asked for it on."""

from contextlib import suppress

from server.files.base import ImageStore
from server.guard.caller import Caller
from server.interleave.document import Document
from server.interleave.journal.base import DocumentNotFoundError, Journal, JournalTruncatedError, StoredDocument


async def find_document(journal: Journal, document_id: str, caller: Caller, surface: str) -> StoredDocument:
    """What is known of a stored document besides its events. Whoever is to see or to end it asks this first.

    Args:
        journal: keeps it.
        document_id: of the document.
        caller: whose it must be.
        surface: that it must have been asked for on.

    Raises:
        DocumentNotFoundError: there is none of this id, or it is none of his.
        JournalError: it cannot be read.
    """
    stored = await journal.stored(document_id)
    if (stored.caller, stored.surface) != (caller.id, surface):
        raise DocumentNotFoundError(document_id)
    return stored


async def delete_document(journal: Journal, files: ImageStore, document_id: str) -> None:
    """Forget a stored document and the pictures that it links to. One that is being made is cancelled.

    Raises:
        DocumentNotFoundError: there is none of this id.
        JournalError: the process that makes or made it does not answer.
        StorageError: the pictures cannot be deleted now; then the document is still there.
    """
    await journal.cancel(document_id)
    # A document that outgrew its bound has lost its first pictures' names: these stay until they expire.
    with suppress(JournalTruncatedError):
        document = Document.of(await journal.events_so_far(document_id))
        await files.delete(document.linked_images)
    await journal.delete(document_id)
