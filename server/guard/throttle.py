"""Requests for answers are counted before they are read, and every answer tells its caller how he stands."""

from collections.abc import Callable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.guard.authentication import route_path
from server.guard.rate_limits import Allowance, RateLimitError, RateLimits

ANSWERING = frozenset({"/v1/interleaved", "/v1/chat/completions", "/v1/responses", "/v1/images/generations"})
"""Where answers are asked for. To read, cancel and delete is free: it takes no work, or saves some."""


class Throttle:
    """Middleware that refuses requests for answers to callers who have reached a limit.

    Args:
        app: what answers; :class:`~server.guard.authentication.Authentication` has told who asks.
        limits: hold callers to theirs.
        refusal: the response to a caller who has reached one.
    """

    def __init__(self, app: ASGIApp, limits: RateLimits, refusal: Callable[[RateLimitError], Response]) -> None:
        self._app = app
        self._limits = limits
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or route_path(scope) not in ANSWERING:
            await self._app(scope, receive, send)
            return
        try:
            allowances = await self._limits.count_request(scope["state"]["caller"])
        except RateLimitError as error:
            await self._refusal(error)(scope, receive, send)
            return

        async def send_with_allowances(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers_of(allowances))
            await send(message)

        await self._app(scope, receive, send_with_allowances)


def headers_of(allowances: Sequence[Allowance]) -> dict[str, str]:
    """What a response tells of its caller's limits."""
    return {name: value for allowance in allowances for name, value in allowance.headers().items()}
