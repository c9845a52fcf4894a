"""``/v1/files/images``: the pictures that answers link to, and the links."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from server.api.routing import ERRORS, RunningService
from server.files.base import IMAGE_ID, StoredImage
from server.interleave.renderers.delivery import LinkTo
from server.schema.errors import APIError
from server.service import Service

PATH = "/v1/files/images"
LINK = re.compile(rf"(?:(?:https?://[^/?#\s]+)?(?:/[^?#\s]*)?{PATH}/)?({IMAGE_ID.pattern})")
LONGEST_LINK = 2048  # data URLs have millions of characters, and no need to be searched

router = APIRouter(tags=["files"])

IfNoneMatch = Annotated[str, Header(description="Entity tags of pictures that the caller has.")]

BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture. Its content never changes.",
        "content": dict.fromkeys(("image/png", "image/webp", "image/jpeg"), BINARY),
    }
}
KNOWN: dict[int | str, dict[str, Any]] = {304: {"description": "The picture is one that `If-None-Match` names."}}


async def picture_links(request: Request, service: RunningService) -> LinkTo:
    """Makes the URLs of pictures, under which the caller of this request reaches them."""
    base = (service.settings.files.public_url or str(request.base_url)).rstrip("/")
    return lambda image: f"{base}{PATH}/{image.id}"


PictureLinks = Annotated[LinkTo, Depends(picture_links)]


def linked_image(url: str) -> str | None:
    """Id of the picture of this server that a URL, a path or an id names; None if it names none.

    The host does not matter: behind proxies a server has many names, and an id is not found unless it is its own.
    """
    found = LINK.fullmatch(url) if len(url) <= LONGEST_LINK else None
    return found[1] if found else None


@router.get(
    PATH + "/{image_id}",
    response_class=Response,
    responses={**IMAGE, **KNOWN, **ERRORS},
    summary="Get a picture of an answer",
)
async def get_image(image_id: str, service: RunningService, if_none_match: IfNoneMatch = "") -> Response:
    """A picture that was delivered as a link, until it expires."""
    image = await stored_image(image_id, service)
    # Its caller's alone, and the same for ever.
    caching = f"private, max-age={int(image.seconds_left)}, immutable"
    headers = {"ETag": entity_tag(image_id), "Cache-Control": caching}
    if is_known(image_id, if_none_match):
        return Response(status_code=304, headers=headers)
    suffix = image.media_type.removeprefix("image/")
    headers |= {
        "Content-Disposition": f'inline; filename="{image_id}.{suffix}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(image.data, media_type=image.media_type, headers=headers)


@router.head(
    PATH + "/{image_id}",
    response_class=Response,
    responses={**KNOWN, **ERRORS},
    summary="Ask whether a picture is still there",
)
async def head_image(image_id: str, service: RunningService, if_none_match: IfNoneMatch = "") -> Response:
    """What `GET` answers, without the picture."""
    response = await get_image(image_id, service, if_none_match)
    return Response(status_code=response.status_code, headers=response.headers)


async def stored_image(image_id: str, service: Service) -> StoredImage:
    """A picture from the store.

    Raises:
        APIError: with status 404: there is none of this id.
        StorageError: it cannot be read now.
    """
    image = await service.files.get(image_id) if IMAGE_ID.fullmatch(image_id) else None
    if image is None:
        raise APIError(404, f"there is no picture {image_id!r}, or none any more", code="image_not_found")
    return image


def entity_tag(image_id: str) -> str:
    """An id names the same bytes for ever."""
    return f'"{image_id}"'


def is_known(image_id: str, if_none_match: str) -> bool:
    """Whether the caller has the picture already, by his ``If-None-Match``."""
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in known or entity_tag(image_id) in known
