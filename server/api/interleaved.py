"""``POST /v1/interleaved``: a document, whole or as it is made."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from server.api.intake import document_request
from server.api.routing import ERRORS, JSONBodyRoute, RunningService
from server.interleave.document import Document
from server.interleave.renderers.interleaved import render_document, render_event
from server.interleave.running import RunningDocument
from server.interleave.tasks import end
from server.llm.prompt import PromptError
from server.observe.requests import CLIENT_LEFT
from server.schema.errors import APIError
from server.schema.interleaved import InterleavedRequest, InterleavedResponse
from server.settings import ServerSettings

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["interleaved"], route_class=JSONBodyRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InterleavedResponse,
        "description": "The document; with `stream`, server-sent events while it is made.",
        "content": {"text/event-stream": {"itemSchema": {"$ref": "#/components/schemas/InterleavedEvent"}}},
    }
}


@router.post("/interleaved", responses={**STREAM, **ERRORS}, summary="Make a document of text and pictures")
async def interleaved(body: InterleavedRequest, request: Request, service: RunningService) -> Response:
    """Answer with text and pictures, in the order that the model chooses."""
    wanted = await document_request(body, service.backend, service.settings)
    try:
        document = await service.begin(wanted)
    except PromptError as error:
        param = "input" if error.param == "messages" and body.input is not None else error.param
        raise APIError(400, f"{param}: {error}", param=param, code="invalid_prompt") from error
    if body.stream:
        return DocumentStream(document, service.settings.server)
    return await whole_document(document, request)


async def whole_document(document: RunningDocument, request: Request) -> Response:
    """The document when it is finished. A caller who leaves before that ends it."""
    assembling = asyncio.create_task(assemble(document))
    leaving = asyncio.create_task(client_left(request))
    try:
        await asyncio.wait({assembling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not assembling.done():
            return Response(status_code=CLIENT_LEFT)
        assembled = assembling.result()
    finally:
        document.cancel()
        await end([assembling, leaving])
    if assembled.error is not None:
        status = 503 if assembled.error.code in ("shutdown", "engine_unavailable") else 500
        raise APIError(status, assembled.error.message, type="server_error", code=assembled.error.code)
    return Response(await render_document(assembled), media_type="application/json")


async def assemble(running: RunningDocument) -> Document:
    """The document, put together from its events."""
    document = Document()
    async for event in running.events():
        document.apply(event)
    return document


async def client_left(request: Request) -> None:
    """Return when the caller has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class DocumentStream(EventSourceResponse):
    """The events of a document as they happen. A caller who leaves, or takes nothing for too long, ends it.

    Args:
        document: what is streamed.
        settings: after what silence a comment is sent, so that no proxy gives up on a long picture; and how long the
            caller may take nothing.
    """

    def __init__(self, document: RunningDocument, settings: ServerSettings) -> None:
        self._document = document
        super().__init__(
            self._render(),
            ping=settings.keepalive_s,
            send_timeout=settings.send_timeout_s,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
            headers={"X-Document-Id": document.id},
            sep="\n",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("document %s: its reader took nothing for %g s", self._document.id, self.send_timeout)
        finally:
            # Also when the caller was gone before the first event could be sent, and the generator never began.
            self._document.cancel()

    async def _render(self) -> AsyncIterator[bytes]:
        async for event in self._document.events():
            yield await render_event(event)
