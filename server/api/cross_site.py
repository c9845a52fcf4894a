"""Pages of other sites get nothing done here: a browser sends their requests too, from inside the user's network."""

from fastapi import Request

from server.api.routing import RunningService
from server.schema.errors import APIError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


async def refuse_cross_site(request: Request, service: RunningService) -> None:
    """Refuse what a page of another site asks for, unless its origin is allowed.

    Every current browser says so itself, in ``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/). Programs send
    no such header.

    Raises:
        APIError: with status 403.
    """
    if request.method in SAFE_METHODS or request.headers.get("sec-fetch-site") != "cross-site":
        return
    if request.headers.get("origin") not in service.settings.server.allowed_origins:
        message = "pages of other sites may not use this server; its setting server.allowed_origins can allow them"
        raise APIError(403, message, code="cross_site_request")
