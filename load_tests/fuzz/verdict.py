"""Whether a response is one that the service may give."""

import json
from collections.abc import Iterable, Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent

from load_tests.fuzz.description import EVENTS, JSON, Description, Operation
from load_tests.fuzz.http import Request, Response
from load_tests.soak.caller import is_last

MUST_SAY_WHEN = (429, 503)
DECLARED_503 = "service_unavailable_error"
SHOWN = 300


def faults(request: Request, response: Response | None, description: Description) -> Iterator[str]:
    """What is wrong with a response.

    Args:
        request: that it answers.
        response: None if there was none.
        description: what the service says of itself.
    """
    if response is None:
        if request.is_http and request.leaves_after_s is None:
            yield "the connection was closed without an answer"
        return
    if response.status >= 400:
        yield from _faults_of_error(request, response, description)
    elif request.is_http and response.status == 200 and request.method != b"HEAD":
        operation = description.operations.get(request.operation)
        if operation is not None and request.method.decode("latin-1") == operation.method:
            yield from _faults_of_answer(request, response, operation)


def _faults_of_error(request: Request, response: Response, description: Description) -> Iterator[str]:
    shown = response.body[:SHOWN]
    if response.status > 503 or response.status in (500, 501, 502):
        yield f"{response.status}: {shown!r}"
        return
    if request.method == b"HEAD" or not response.is_whole:
        return
    if response.media_type != JSON:
        if not _is_preflight(request):
            yield f"{response.status} is {response.media_type or 'of no type'}: {shown!r}"
        return
    try:
        error = json.loads(response.body)
    except ValueError:
        yield f"{response.status} is no JSON: {shown!r}"
        return
    if problem := next(description.error.iter_errors(error), None):
        yield f"{response.status} has not the shape of an error: {problem.message}: {shown!r}"
        return
    if response.status == 503 and error["error"]["type"] != DECLARED_503:
        yield f"503: {shown!r}"
    if response.status in MUST_SAY_WHEN and "retry-after" not in response.headers:
        yield f"{response.status} without Retry-After: {shown!r}"


def _is_preflight(request: Request) -> bool:
    """Whether a browser would ask so for what it may do: that is answered in words."""
    return request.method == b"OPTIONS"


def _faults_of_answer(request: Request, response: Response, operation: Operation) -> Iterator[str]:
    if response.media_type == EVENTS:
        yield from _faults_of_stream(request, response, operation)
    elif not response.is_whole:
        if request.leaves_after_s is None:
            yield f"an answer of {len(response.body)} bytes broke off"
    elif response.media_type == JSON and operation.answers is not None:
        answer = json.loads(response.body)
        if problem := next(operation.answers.iter_errors(answer), None):
            yield f"the answer is not as it is described: {_where(problem.instance_path)}: {problem.message[:SHOWN]}"


def _faults_of_stream(request: Request, response: Response, operation: Operation) -> Iterator[str]:
    last: ServerSentEvent | None = None
    for event in events_of(response):
        last = event
        if operation.events is None:
            yield "a stream, where none is described"
            return
        if event.data in operation.sentinels:
            continue
        if problem := next(operation.events.iter_errors(json.loads(event.data)), None):
            yield f"an event is not as it is described: {problem.message[:SHOWN]}: {event.data[:SHOWN]}"
            return
    if request.leaves_after_s is not None:
        return
    # Who asks for what comes after the last event gets none.
    nothing_left = last is None and b"starting_after" in request.target
    if not response.is_whole or (not nothing_left and (last is None or not _ends(last))):
        yield f"a stream ends with {last!r}"


def _ends(event: ServerSentEvent) -> bool:
    return is_last(event) or "error" in json.loads(event.data)


def _where(steps: Iterable[str | int]) -> str:
    return ".".join(map(str, steps))


def events_of(response: Response) -> Iterator[ServerSentEvent]:
    """The events of a stream, as far as they are whole."""
    received = httpx.Response(response.status, headers=dict(response.headers), content=response.body)
    # To httpx_sse a comment after an event with an id is an event too, one without data.
    return (event for event in EventSource(received).iter_sse() if event.data)
