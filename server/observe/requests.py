"""What is noted of every HTTP request: an id, a span, a log line, a count and a duration."""

import logging
import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, use_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.observe.logging import request_id
from server.observe.metrics import HTTP_DURATION, HTTP_REQUESTS
from server.observe.tracing import context_of, fail, tracer

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT = 499  # nginx's status for a client that closed the connection before it was answered

arrival: ContextVar[float | None] = ContextVar("arrival", default=None)
"""When the request came for which something is done, on the clock of ``perf_counter``; None beside requests."""


class RequestObserver:
    """Middleware that gives each request an id, logs it, traces it and measures it.

    The id is the caller's ``X-Request-Id``, if it is a sane one, and the span a child of his ``traceparent``.

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
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        begin, status = perf_counter(), CLIENT_LEFT
        tokens = request_id.set(id), arrival.set(begin)
        span = begin_span(scope, headers, id)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = id
            await send(message)

        with use_span(span, end_on_exit=True):
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
                method = scope["method"] if scope["method"] in METHODS else "_OTHER"
                HTTP_REQUESTS.labels(method, route, status).inc()
                HTTP_DURATION.labels(method, route).observe(seconds)
                describe(span, method, route, status)
                request_id.reset(tokens[0])
                arrival.reset(tokens[1])


def begin_span(scope: Scope, headers: Headers, id: str) -> Span:
    """The span of a request to the API, none of a health check, a scrape or a page.

    Its attributes are OpenTelemetry's: https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
    """
    if not scope["path"].startswith("/v1"):
        return INVALID_SPAN
    attributes = {"url.path": scope["path"], "dreamserve.request.id": id}
    return tracer.start_span(scope["method"], context_of(headers), SpanKind.SERVER, attributes)


def describe(span: Span, method: str, route: str, status: int) -> None:
    """Say of a span what is known at its end. The name is a template, so that there are not too many."""
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if status >= 500:
        fail(span, f"HTTP {status}")
