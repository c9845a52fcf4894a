"""``/v1/responses``: documents for clients of OpenAI's responses; a stored one again, by its id."""

import asyncio
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from server.api.beginning import begin_document
from server.api.files import PictureLinks
from server.api.responses_input import SURFACE
from server.api.responses_listing import input_item_list
from server.api.responses_request import response_request, response_view, store_request, stored_view
from server.api.routing import ERRORS, Asking, JSONBodyRoute, RunningService, event_stream
from server.api.streaming import DocumentStream, document_response, whole_document
from server.interleave.document import Document
from server.interleave.renderers.responses import ResponseView, render_response
from server.interleave.renderers.responses_stream import render_stream
from server.llm.prompt import PromptError
from server.schema import responses_object
from server.schema.errors import APIError
from server.schema.responses import ResponseRequest
from server.schema.responses_object import DeletedResponse, InputItemList
from server.service import Service
from server.stored_documents import delete_document, find_document

router = APIRouter(prefix="/v1", tags=["responses"], route_class=JSONBodyRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": responses_object.Response,
        "description": "The response; with `stream`, server-sent events while it is made.",
        "content": event_stream("ResponseStreamEvent"),
    }
}


@router.post("/responses", responses={**STREAM, **ERRORS}, summary="Respond with text and pictures")
async def create_response(
    body: ResponseRequest, request: Request, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """Answer as OpenAI's responses do: every stretch of text is a message, every picture an image generation call."""
    wanted = await response_request(body, service, caller)
    view = response_view(body, wanted, link_to)
    try:
        store = store_request(body, view) if body.store else None
        document = await begin_document(service, wanted, caller, request, store)
    except PromptError as error:
        param = "input" if error.param == "messages" else error.param
        raise APIError(400, f"{param}: {error}", param=param, code="invalid_prompt") from error
    if body.stream:
        frames = render_stream(document.events(), view)
        return DocumentStream(document.id, frames, document.leave, service.settings.server)
    if body.background:
        return await response_so_far(document.id, service, view)
    return await whole_document(
        document.id, document.events(), document.leave, request, partial(render_response, view=view)
    )


@router.get("/responses/{response_id}", responses={**STREAM, **ERRORS}, summary="Get a stored response")
async def get_response(
    response_id: str,
    service: RunningService,
    caller: Asking,
    link_to: PictureLinks,
    stream: Annotated[bool, Query(description="Send its events, and those to come.")] = False,
    starting_after: Annotated[int | None, Query(ge=0, description="Number of the last event that is known.")] = None,
) -> Response:
    """A response that was stored, as far as it is; as a stream, from where another one broke off."""
    stored = await find_document(service.journal, response_id, caller, SURFACE)
    view = stored_view(stored, link_to)
    if not stream:
        return await response_so_far(response_id, service, view)
    stored.require_kept(None)
    frames = render_stream(await service.journal.follow(response_id, None), view, starting_after)
    return DocumentStream(response_id, frames, lambda: None, service.settings.server)


@router.get(
    "/responses/{response_id}/input_items",
    response_model=InputItemList,
    responses=ERRORS,
    summary="List what a stored response answers to",
)
async def list_input_items(
    response_id: str,
    service: RunningService,
    caller: Asking,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc` has the latest first.")] = "desc",
    after: Annotated[str | None, Query(description="Id of the item that comes before the first one.")] = None,
) -> Response:
    """The items of the request itself, not those of the responses that it goes on from."""
    stored = await find_document(service.journal, response_id, caller, SURFACE)
    listing = await asyncio.to_thread(input_item_list, stored, limit, order == "desc", after)
    return Response(listing.model_dump_json(), media_type="application/json")


@router.post(
    "/responses/{response_id}/cancel",
    response_model=responses_object.Response,
    responses=ERRORS,
    summary="End a stored response",
)
async def cancel_response(response_id: str, service: RunningService, caller: Asking, link_to: PictureLinks) -> Response:
    """The response as it was when it ended. Nothing happens to one that has ended before."""
    stored = await find_document(service.journal, response_id, caller, SURFACE)
    await service.journal.cancel(response_id)
    return await response_so_far(response_id, service, stored_view(stored, link_to))


@router.delete("/responses/{response_id}", responses=ERRORS, summary="Forget a stored response")
async def delete_response(response_id: str, service: RunningService, caller: Asking) -> DeletedResponse:
    """One that is still being made is ended."""
    await find_document(service.journal, response_id, caller, SURFACE)
    await delete_document(service.journal, service.files, response_id)
    return DeletedResponse(id=response_id)


async def response_so_far(response_id: str, service: Service, view: ResponseView) -> Response:
    """The JSON of a stored response."""
    document = Document.of(await service.journal.events_so_far(response_id))
    return document_response(response_id, await render_response(document, view))
