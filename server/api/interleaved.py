"""``/v1/interleaved``: a document, whole or as it is made; a stored one again, by its id."""

import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from server.api.beginning import begin_document
from server.api.files import PictureLinks
from server.api.intake import Conversation, check_model, document_request, image_params
from server.api.routing import ERRORS, Asking, JSONBodyRoute, RunningService, event_stream
from server.api.streaming import DocumentStream, document_response, whole_document
from server.interleave.document import Document, DocumentRequest
from server.interleave.events import DocumentEvent
from server.interleave.journal.base import StoreRequest
from server.interleave.renderers.delivery import LinkTo
from server.interleave.renderers.interleaved import render_document, render_event
from server.llm.conversation import Message
from server.llm.prompt import PromptError
from server.schema.errors import APIError
from server.schema.interleaved import DeletedDocument, InterleavedRequest, InterleavedResponse
from server.service import Service
from server.stored_documents import delete_document, find_document

SURFACE = "interleaved"

router = APIRouter(prefix="/v1", tags=["interleaved"], route_class=JSONBodyRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InterleavedResponse,
        "description": "The document; with `stream`, server-sent events while it is made.",
        "content": event_stream("InterleavedEvent"),
    }
}


@router.post("/interleaved", responses={**STREAM, **ERRORS}, summary="Make a document of text and pictures")
async def interleaved(
    body: InterleavedRequest, request: Request, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """Answer with text and pictures, in the order that the model chooses."""
    wanted = await interleaved_request(body, service)
    try:
        store = StoreRequest(SURFACE) if body.store else None
        document = await begin_document(service, wanted, caller, request, store)
    except PromptError as error:
        param = "input" if error.param == "messages" and body.input is not None else error.param
        raise APIError(400, f"{param}: {error}", param=param, code="invalid_prompt") from error
    if body.stream:
        frames = rendered(document.events(), link_to)
        return DocumentStream(document.id, frames, document.leave, service.settings.server)
    render = partial(render_document, link_to=link_to)
    return await whole_document(document.id, document.events(), document.leave, request, render)


@router.get("/interleaved/{document_id}", responses={**STREAM, **ERRORS}, summary="Get a stored document")
async def get_interleaved(
    document_id: str,
    service: RunningService,
    caller: Asking,
    link_to: PictureLinks,
    stream: Annotated[bool, Query(description="Send its events, and those to come.")] = False,
    starting_after: Annotated[int | None, Query(ge=0, description="Number of the last event that is known.")] = None,
    last_event_id: Annotated[
        int | None, Header(ge=0, description="The same, as browsers say it when they connect again; it comes first.")
    ] = None,
) -> Response:
    """A document that was asked for with `store`, as far as it is; as a stream, from where another one broke off."""
    stored = await find_document(service.journal, document_id, caller, SURFACE)
    if not stream:
        return await document_so_far(document_id, service, link_to)
    after = starting_after if last_event_id is None else last_event_id
    stored.require_kept(after)
    frames = rendered(await service.journal.follow(document_id, after), link_to)
    return DocumentStream(document_id, frames, lambda: None, service.settings.server)


@router.post(
    "/interleaved/{document_id}/cancel",
    response_model=InterleavedResponse,
    responses=ERRORS,
    summary="End a stored document",
)
async def cancel_interleaved(
    document_id: str, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """The document as it was when it ended. Nothing happens to one that has ended before."""
    await find_document(service.journal, document_id, caller, SURFACE)
    await service.journal.cancel(document_id)
    return await document_so_far(document_id, service, link_to)


@router.delete("/interleaved/{document_id}", responses=ERRORS, summary="Forget a stored document")
async def delete_interleaved(document_id: str, service: RunningService, caller: Asking) -> DeletedDocument:
    """One that is still being made is ended."""
    await find_document(service.journal, document_id, caller, SURFACE)
    await delete_document(service.journal, service.files, document_id)
    return DeletedDocument(id=document_id)


async def document_so_far(document_id: str, service: Service, link_to: LinkTo) -> Response:
    """The JSON of a stored document."""
    document = Document.of(await service.journal.events_so_far(document_id))
    return document_response(document_id, await render_document(document, link_to))


async def interleaved_request(body: InterleavedRequest, service: Service) -> DocumentRequest:
    """The request for a document that a body stands for.

    Raises:
        APIError: it asks for what there is not, or for more than is allowed. Names the field.
    """
    backend, settings = service.backend, service.settings
    check_model(body.model, settings)
    previews = body.images.previews if body.stream else 0
    images = image_params(body.images, backend, settings.limits, previews=previews)
    return document_request(
        body,
        id=f"doc_{secrets.token_hex(16)}",
        messages=await read_messages(body, Conversation(service)),
        max_tokens=body.max_tokens,
        images=images,
        backend=backend,
        settings=settings,
    )


async def read_messages(body: InterleavedRequest, conversation: Conversation) -> tuple[Message, ...]:
    """The conversation, its pictures decoded.

    Raises:
        APIError: it has too many parts, or a picture that cannot be read.
    """
    if body.input is not None:
        return (Message("user", await conversation.read(body.input, "input")),)
    return tuple(
        [
            Message(message.role, await conversation.read(message.content, f"messages[{i}].content"))
            for i, message in enumerate(body.messages or ())
        ]
    )


async def rendered(events: AsyncIterator[DocumentEvent], link_to: LinkTo) -> AsyncIterator[bytes]:
    """The events as server-sent events."""
    async for event in events:
        yield await render_event(event, link_to)
