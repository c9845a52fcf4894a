"""What the routers share."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from server.api.body_values import MOST_VALUES, has_too_many_marks, has_too_many_values
from server.guard.caller import Caller
from server.schema.errors import ErrorResponse
from server.service import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "The request cannot be served; `param` names the field at fault."},
    "5XX": {"model": ErrorResponse, "description": "The server cannot serve it, now or at all."},
}


def event_stream(*events: str, last: str | None = None) -> dict[str, Any]:
    """The content of a response that is server-sent events, as OpenAPI 3.2 describes it.

    Args:
        events: names of schemas; the data of an event is JSON of one of them.
        last: the data of the last event, if it is something else.
    """
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in events]
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
    }
    if last is not None:
        data = {"anyOf": [{"const": last}, data]}
    names = {"event": {"type": "string"}, "id": {"type": "string"}}
    item = {"type": "object", "properties": {"data": data, **names}, "required": ["data"]}
    return {"text/event-stream": {"itemSchema": item}}


class JSONRequest(Request):
    """A request whose body is JSON, and stricter JSON than Python's: no NaN, no half of a surrogate pair in a text.

    It holds no more values than can be checked at once: what has more ends with status 413.
    """

    async def json(self) -> Any:
        body = await self.body()
        too_many = HTTPException(413, f"the body has more than {MOST_VALUES} values")
        if has_too_many_marks(body):
            raise too_many
        try:
            value = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), body.decode(errors="replace"), 0) from error
        if has_too_many_values(value):
            raise too_many
        return value


class JSONBodyRoute(APIRoute):
    """Reads every body as JSON: ``curl -d`` calls its body a form unless it is told otherwise."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def read_as_json(request: Request) -> Response:
            MutableHeaders(scope=request.scope)["content-type"] = "application/json"
            return await handler(JSONRequest(request.scope, request.receive))

        return read_as_json


async def get_service(request: Request) -> Service:
    """The service of the app."""
    service: Service = request.app.state.service
    return service


async def get_caller(request: Request) -> Caller:
    """Who asks, as authentication has found out."""
    caller: Caller = request.state.caller
    return caller


RunningService = Annotated[Service, Depends(get_service)]
Asking = Annotated[Caller, Depends(get_caller)]
