"""``POST /v1/images/generations``: pictures of a description, for clients of OpenAI's images."""

import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from server.api.beginning import begin_document
from server.api.errors import busy_error
from server.api.files import PictureLinks
from server.api.intake import check_model, image_params
from server.api.routing import ERRORS, Asking, JSONBodyRoute, RunningService, event_stream
from server.api.streaming import UNAVAILABLE, DocumentStream, whole_document
from server.backend import Backend
from server.interleave.events import DocumentEvent, ImageFailed
from server.interleave.renderers.images import ImagesView, error_of, render_images, render_stream
from server.interleave.text_to_image import TextToImageRequest
from server.llm.prompt import PromptError
from server.schema.errors import APIError, invalid_value
from server.schema.images import ImagesRequest, ImagesResponse
from server.schema.interleaved import ImageOptions
from server.settings import Settings

TRY_LATER = UNAVAILABLE | {"unavailable", "timeout", "storage_full", "storage_failed", "check_failed"}
"""Codes of pictures that failed here and now, but may succeed elsewhere or later."""

router = APIRouter(prefix="/v1", tags=["images"], route_class=JSONBodyRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesResponse,
        "description": "The pictures; with `stream`, server-sent events while they are drawn. If one of them cannot be "
        "drawn, the whole request fails.",
        "content": event_stream("ImagesEvent"),
    }
}


@router.post("/images/generations", responses={**STREAM, **ERRORS}, summary="Draw pictures of a description")
async def generate_images(
    body: ImagesRequest, request: Request, service: RunningService, caller: Asking, link_to: PictureLinks
) -> Response:
    """Draw straight from the prompt: the model writes no text."""
    wanted = images_request(body, service.backend, service.settings)
    try:
        document = await begin_document(service, wanted, caller, request)
    except PromptError as error:
        param = error.param.removeprefix("images.")
        raise APIError(400, f"{param}: {error}", param=param, code="invalid_prompt") from error
    size = f"{wanted.images.width}x{wanted.images.height}"
    view = ImagesView(link_to, size, wanted.images.format, document.usage)
    if body.stream:
        frames = render_stream(document.events(), view)
        return DocumentStream(document.id, frames, document.leave, service.settings.server)
    events = all_or_none(document.events())
    return await whole_document(document.id, events, document.leave, request, partial(render_images, view=view))


def images_request(body: ImagesRequest, backend: Backend, settings: Settings) -> TextToImageRequest:
    """The request for a document that a body stands for.

    Raises:
        APIError: it asks for what there is not, or for more than is allowed. Names the field.
    """
    check_model(body.model, settings)
    if body.n > settings.limits.images:
        raise invalid_value("n", f"at most {settings.limits.images}")
    if body.partial_images and not body.stream:
        raise invalid_value("partial_images", "only with stream")
    options = ImageOptions(
        max=body.n,
        size=None if body.size == "auto" else body.size,
        steps=body.steps,
        guidance_scale=body.guidance_scale,
        negative_prompt=body.negative_prompt,
        scheduler=body.scheduler,
        seed=body.seed,
        format=body.output_format,
        delivery="url" if body.response_format == "url" else "inline",
    )
    return TextToImageRequest(
        id=f"img_{uuid.uuid4().hex}",
        model=settings.model.name,
        description=body.prompt,
        images=image_params(options, backend, settings.limits, previews=body.partial_images, prefix=""),
    )


async def all_or_none(events: AsyncIterator[DocumentEvent]) -> AsyncIterator[DocumentEvent]:
    """The events, unless a picture fails: OpenAI's response has no place for one that is missing.

    Raises:
        APIError: with what the first one failed of.
    """
    async for event in events:
        if isinstance(event, ImageFailed):
            if event.code in TRY_LATER:
                raise busy_error(event.message, event.code)
            error = error_of(event)
            status = 400 if error.type == "invalid_request_error" else 500
            raise APIError(status, error.message, type=error.type, code=error.code)
        yield event
