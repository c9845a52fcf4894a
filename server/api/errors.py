"""Every failure as an error response in OpenAI's shape, naming the field at fault."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from server.availability import UnavailableError
from server.files.base import StorageError
from server.guard.admission import OverloadedError
from server.guard.authentication import AuthenticationError
from server.guard.checks import CheckFailedError, PromptRefusedError
from server.guard.image_loading import DecodingBusyError
from server.guard.rate_limits import RateLimitError
from server.guard.throttle import headers_of
from server.interleave.journal.base import (
    DocumentNotFoundError,
    JournalError,
    JournalTruncatedError,
    JournalUnavailableError,
)
from server.llm.engine import EngineDeadError, EngineError, SamplingError
from server.llm.prompt import PromptError
from server.schema.errors import CONTENT_POLICY_VIOLATION, APIError, ErrorResponse, invalid_value

logger = logging.getLogger(__name__)

JOURNAL_RETRY_AFTER_S = 1
BUSY_RETRY_AFTER_S = 5
RETRY_AFTER_S = {"loading": 5, "draining": 1, "no_workers": 5, "failed": 30}
CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
    "unsupported_parameter": "unsupported_parameter",
}


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every exception that has an answer. The others end in the request log's 500."""

    @app.exception_handler(APIError)
    async def api_error(_: Request, error: APIError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(validation_error(error.errors(), error.body))

    @app.exception_handler(PromptError)
    async def invalid_prompt(_: Request, error: PromptError) -> JSONResponse:
        return error_response(APIError(400, str(error), param=error.param, code="invalid_prompt"))

    @app.exception_handler(SamplingError)
    async def invalid_sampling(_: Request, error: SamplingError) -> JSONResponse:
        return error_response(invalid_value(error.param, str(error)))

    @app.exception_handler(PromptRefusedError)
    async def refused_prompt(_: Request, error: PromptRefusedError) -> JSONResponse:
        return error_response(APIError(400, str(error), code=CONTENT_POLICY_VIOLATION))

    @app.exception_handler(CheckFailedError)
    async def no_check(_: Request, error: CheckFailedError) -> JSONResponse:
        return error_response(busy_error(str(error), "check_failed"))

    @app.exception_handler(DecodingBusyError)
    async def too_many_pictures(_: Request, error: DecodingBusyError) -> JSONResponse:
        return error_response(busy_error(str(error), "image_decoding_busy"))

    @app.exception_handler(RateLimitError)
    async def at_a_limit(_: Request, error: RateLimitError) -> JSONResponse:
        return error_response(rate_limit_error(error))

    @app.exception_handler(OverloadedError)
    async def overloaded(_: Request, error: OverloadedError) -> JSONResponse:
        return error_response(overloaded_error(error))

    @app.exception_handler(UnavailableError)
    async def unavailable(_: Request, error: UnavailableError) -> JSONResponse:
        return error_response(unavailable_error(error))

    @app.exception_handler(JournalError)
    async def not_readable(_: Request, error: JournalError) -> JSONResponse:
        return error_response(journal_error(error))

    @app.exception_handler(StorageError)
    async def no_pictures(_: Request, error: StorageError) -> JSONResponse:
        return error_response(busy_error(str(error), error.code))

    @app.exception_handler(EngineError)
    async def engine_failed(_: Request, error: EngineError) -> JSONResponse:
        logger.error("the language model failed: %s", error)
        if isinstance(error, EngineDeadError):  # the service has failed, and is about to find out
            return error_response(unavailable_error(UnavailableError("failed")))
        return error_response(APIError(500, "the language model failed", type="server_error", code="engine_error"))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(http_exception_error(request, error))


def error_response(error: APIError) -> JSONResponse:
    """The response of an error."""
    body = ErrorResponse(error=error.error).model_dump()
    return JSONResponse(body, status_code=error.status, headers=error.headers)


def internal_error() -> APIError:
    """What a caller is told of a defect: nothing but that there is one."""
    return APIError(500, "internal server error", type="server_error", code="internal_error")


def authentication_error(error: AuthenticationError) -> APIError:
    """A caller who does not say who he is, and must."""
    return APIError(401, str(error), code="invalid_api_key", headers={"WWW-Authenticate": error.challenge})


def rate_limit_error(error: RateLimitError) -> APIError:
    """A caller who has reached one of his limits."""
    headers = {"Retry-After": str(error.retry_after_s), **headers_of(error.allowances)}
    return APIError(429, str(error), type="rate_limit_error", code="rate_limit_exceeded", headers=headers)


def unavailable_error(error: UnavailableError) -> APIError:
    """A service that takes no documents now, but another one may, or it later."""
    return APIError(
        503,
        str(error),
        type="service_unavailable_error",
        code=f"server_{error.reason}",
        headers={"Retry-After": str(RETRY_AFTER_S[error.reason])},
    )


def overloaded_error(error: OverloadedError) -> APIError:
    """A server that has too much to do: the caller did nothing wrong, but should come later."""
    headers = {"Retry-After": str(error.retry_after_s)}
    return APIError(429, str(error), type="service_unavailable_error", code="overloaded", headers=headers)


def busy_error(message: str, code: str) -> APIError:
    """What cannot be done here and now, but may be later, or elsewhere."""
    headers = {"Retry-After": str(BUSY_RETRY_AFTER_S)}
    return APIError(503, message, type="service_unavailable_error", code=code, headers=headers)


def journal_error(error: JournalError) -> APIError:
    """A stored document that cannot be read."""
    message = str(error)
    match error:
        case DocumentNotFoundError():
            return APIError(404, message, code="document_not_found")
        case JournalTruncatedError():
            return APIError(410, message, code="journal_truncated")
        case JournalUnavailableError():
            return APIError(
                503,
                message,
                type="service_unavailable_error",
                code="journal_unavailable",
                headers={"Retry-After": str(JOURNAL_RETRY_AFTER_S)},
            )
    return internal_error()


def http_exception_error(request: Request, error: HTTPException) -> APIError:
    """What routing and reading the body raise."""
    message = str(error.detail)
    headers = dict(error.headers) if error.headers else None
    if error.status_code == 404:
        message = f"there is nothing at {request.method} {request.url.path}"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
        headers = {"Allow": ", ".join(sorted(methods_of(request)))}
    code = HTTPStatus(error.status_code).name.lower()
    return APIError(error.status_code, message, code=code, headers=headers)


def methods_of(request: Request) -> set[str]:
    """What the path of a request takes: routing knows only of the first of its routes."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes if isinstance(route, Route) for method in route.methods or ()}


def validation_error(errors: Sequence[dict[str, Any]], body: Any) -> APIError:
    """The first of what is wrong with a request, and how much more there is."""
    first = errors[0]
    param = field_name(first, body)
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        reason = f"the body is not JSON: {first.get('ctx', {}).get('error', reason)}"
    elif first["type"] == "extra_forbidden":
        reason = "there is no such field"
    elif first["type"] in ("model_type", "model_attributes_type"):
        reason = "Input should be an object"
    elif first["type"] == "missing" and param is None:
        reason = "the body is missing"
    message = f"{param}: {reason}" if param else reason
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    code = CODES.get(first["type"], "invalid_type" if first["type"].endswith("_type") else "invalid_value")
    return APIError(400, message, param=param, code=code)


def field_name(error: dict[str, Any], body: Any) -> str | None:
    """The field that an error is about, as a caller writes it: ``messages[0].content[1].image_url``.

    Pydantic's location also names the members of unions that it tried. That is what names the kind of an object, when
    it comes for the first time, and what is no key of the body, unless it is the last and the error is that the key is
    missing.
    """
    location = list(error["loc"])
    if not location or location[0] != "body" or error["type"] == "json_invalid":
        return str(location[-1]) if location and location[0] in ("path", "query", "header") else None
    name, kind_known_of = "", None
    for position, step in enumerate(location[1:], start=2):
        if isinstance(step, int) and isinstance(body, list) and step < len(body):
            name, body = f"{name}[{step}]", body[step]
        elif isinstance(body, dict) and step in (body.get("type"), body.get("role")) and kind_known_of is not body:
            kind_known_of = body
        elif isinstance(body, dict) and (step in body or (error["type"] == "missing" and position == len(location))):
            name, body = f"{name}.{step}", body.get(step)
    if error["type"].startswith("union_tag"):
        name += "." + error["ctx"]["discriminator"].strip("'")
    return name.removeprefix(".") or None
