"""Documents over HTTP, whole or as they are made. Every surface answers with these and its own renderer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from server.api.errors import busy_error
from server.interleave.document import Document
from server.interleave.events import CANCELLED, DocumentEvent, DocumentFailed
from server.interleave.journal.base import JournalError
from server.observe import metrics
from server.observe.requests import CLIENT_LEFT
from server.schema.errors import APIError
from server.settings import ServerSettings
from server.tasks import end

UNAVAILABLE = frozenset({"shutdown", "engine_unavailable", "overloaded"})
"""Codes of documents that failed here, but may succeed elsewhere or later."""

logger = logging.getLogger(__name__)


async def whole_document(
    document_id: str,
    events: AsyncIterator[DocumentEvent],
    leave: Callable[[], None],
    request: Request,
    render: Callable[[Document], Awaitable[bytes]],
) -> Response:
    """The document as JSON, when it is finished. The caller may leave before that.

    Args:
        document_id: of the document.
        events: of it, from the first on.
        leave: called when nobody reads the events any more.
        request: its body must have been read.
        render: writes the JSON of a document that ended well.

    Raises:
        APIError: the document could not be finished.
    """
    assembling = asyncio.create_task(assemble(events))
    leaving = asyncio.create_task(client_left(request))
    try:
        await asyncio.wait({assembling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not assembling.done():
            return Response(status_code=CLIENT_LEFT)
        document = assembling.result()
    finally:
        leave()
        await end([assembling, leaving])
    if document.error is not None:
        raise failure(document.error)
    return document_response(document_id, await render(document))


def failure(error: DocumentFailed) -> APIError:
    """What the caller hears of a whole document that could not be finished."""
    if error.code == CANCELLED:
        return APIError(409, error.message, code=CANCELLED)
    if error.code in UNAVAILABLE:
        return busy_error(error.message, error.code)
    return APIError(500, error.message, type="server_error", code=error.code)


def document_response(document_id: str, rendered: bytes) -> Response:
    """The JSON of a document, with its id as streams have it too."""
    return Response(rendered, media_type="application/json", headers=headers_of(document_id))


def headers_of(document_id: str) -> dict[str, str]:
    """What every answer with a document has, whatever its body looks like."""
    return {"X-Document-Id": document_id}


async def assemble(events: AsyncIterator[DocumentEvent]) -> Document:
    """The document, put together from its events."""
    document = Document()
    async for event in events:
        document.apply(event)
    return document


async def client_left(request: Request) -> None:
    """Return when the caller has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def until_unreadable(frames: AsyncIterator[bytes], document_id: str) -> AsyncIterator[bytes]:
    """The frames, as long as the journal has them. A reader who comes again is told why they broke off."""
    try:
        async for frame in frames:
            yield frame
    except JournalError as error:
        logger.warning("a stream of document %s broke off: %s", document_id, error)


class DocumentStream(EventSourceResponse):
    """A document as server-sent events, as they happen. The connection sees to callers who take nothing of it.

    Args:
        document_id: of the document that is streamed.
        frames: its rendered events.
        leave: called when nobody reads them any more.
        settings: after what silence a comment is sent, so that no proxy gives up on a long picture.
    """

    def __init__(
        self,
        document_id: str,
        frames: AsyncIterator[bytes],
        leave: Callable[[], None],
        settings: ServerSettings,
    ) -> None:
        self._leave = leave
        super().__init__(
            until_unreadable(frames, document_id),
            ping=settings.keepalive_s,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
            headers=headers_of(document_id),
            sep="\n",
        )

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        # The library sets up a scope for each event, even without a limit: a tenth of what a token costs.
        await send(message)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with metrics.SSE_CONNECTIONS.track_inprogress():
                await super().__call__(scope, receive, send)
        finally:
            # Also when the caller was gone before the first event could be sent, and no frame was ever asked for.
            self._leave()
