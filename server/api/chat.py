"""``/v1/chat/completions``: documents for clients of OpenAI's chat."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from server.api.beginning import begin_document
from server.api.chat_request import chat_request
from server.api.files import PictureLinks
from server.api.routing import ERRORS, Asking, JSONBodyRoute, RunningService, event_stream
from server.api.streaming import DocumentStream, whole_document
from server.interleave.journal.base import StoreRequest
from server.interleave.renderers.chat import ChatView, render_chunks, render_completion
from server.interleave.renderers.delivery import LinkTo
from server.interleave.running import RunningDocument
from server.schema.chat import ChatCompletionRequest, StreamOptions
from server.schema.chat_completion import ChatCompletion, DeletedChatCompletion
from server.stored_documents import delete_document, find_document

SURFACE = "chat"

router = APIRouter(prefix="/v1", tags=["chat"], route_class=JSONBodyRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "description": "The answer; with `stream`, server-sent events while it is made, the last one `[DONE]`.",
        "content": event_stream("ChatCompletionChunk", "ErrorResponse", last="[DONE]"),
    }
}


@router.post("/chat/completions", responses={**STREAM, **ERRORS}, summary="Answer a chat with text and pictures")
async def create_chat_completion(
    body: ChatCompletionRequest, request: Request, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """Answer as OpenAI's chat completions do, with the pictures as `image_output` says."""
    wanted = await chat_request(body, service)
    document = await begin_document(service, wanted, caller, request, store_request(body) if body.store else None)
    view = chat_view(body, document, link_to)
    if body.stream:
        frames = render_chunks(document.events(), view)
        return DocumentStream(document.id, frames, document.leave, service.settings.server)
    return await whole_document(
        document.id, document.events(), document.leave, request, partial(render_completion, view=view)
    )


@router.get(
    "/chat/completions/{completion_id}",
    response_model=ChatCompletion,
    responses=ERRORS,
    summary="Get a stored answer, when it is finished",
)
async def get_chat_completion(
    completion_id: str, request: Request, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """The answer to a request with `store`."""
    stored = await find_document(service.journal, completion_id, caller, SURFACE)
    view = ChatView(
        link_to=link_to,
        image_output=stored.request["image_output"],
        logprobs=stored.request["logprobs"],
        metadata=stored.request["metadata"],
    )
    events = await service.journal.follow(completion_id, None)
    return await whole_document(completion_id, events, lambda: None, request, partial(render_completion, view=view))


@router.delete("/chat/completions/{completion_id}", responses=ERRORS, summary="Forget a stored answer")
async def delete_chat_completion(completion_id: str, service: RunningService, caller: Asking) -> DeletedChatCompletion:
    """One that is still being made is ended."""
    await find_document(service.journal, completion_id, caller, SURFACE)
    await delete_document(service.journal, service.files, completion_id)
    return DeletedChatCompletion(id=completion_id)


def chat_view(body: ChatCompletionRequest, document: RunningDocument, link_to: LinkTo) -> ChatView:
    """What the caller wants to see of the document."""
    options = body.stream_options or StreamOptions()
    tells_usage = options.include_usage and options.continuous_usage_stats
    return ChatView(
        link_to=link_to,
        image_output=body.image_output,
        stop_strings=bool(body.stop_strings),
        logprobs=body.logprobs,
        service_tier=None if body.service_tier is None else "default",
        metadata=body.metadata if body.store else None,
        include_usage=options.include_usage,
        usage_so_far=document.usage if tells_usage else None,
        include_image_events=options.include_image_events,
    )


def store_request(body: ChatCompletionRequest) -> StoreRequest:
    """What is kept of the request with its answer."""
    kept = {"image_output": body.image_output, "logprobs": body.logprobs, "metadata": body.metadata}
    return StoreRequest(SURFACE, kept)
