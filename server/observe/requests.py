"""What is noted of every HTTP request: an id, a log line, a count and a duration."""

import logging
import re
import uuid
from collections.abc import Callable
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.observe.logging import request_id
from server.observe.metrics import HTTP_DURATION, HTTP_REQUESTS

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT = 499  # nginx's status for a client that closed the connection before it was answered


class RequestObserver:
    """Middleware that gives each request an id, logs it and measures it.

    The id is the caller's ``X-Request-Id``, if it is a sane one.

    Args:
        app: what answers.
        internal_error: the response to an exception that nothing else has answered.
    """

    def __init__(self, app: ASGIApp, internal_error: Callable[[], Response]) -> None:
        self._app = app
        self._internal_error = internal_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        token = request_id.set(id)
        begin, status = perf_counter(), CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if status == CLIENT_LEFT:
                await self._internal_error()(scope, receive, send_with_id)
        finally:
            seconds = perf_counter() - begin
            # Health checks and scrapes come every few seconds for ever.
            level = logging.INFO if scope["path"].startswith("/v1") else logging.DEBUG
            logger.log(level, "%s %s %d in %.3f s", scope["method"], scope["path"], status, seconds)
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            HTTP_REQUESTS.labels(method, route, status).inc()
            HTTP_DURATION.labels(method, route).observe(seconds)
            request_id.reset(token)
