"""The fuzzer on the real server over stand-ins, for some requests; and that it sees what must not be."""

import dataclasses
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from load_tests.fuzz import values
from load_tests.fuzz.description import Description
from load_tests.fuzz.drafting import KnownIds, draw_up
from load_tests.fuzz.http import Request, Response
from load_tests.fuzz.mutations import MUTATIONS, Draft, disturb
from load_tests.fuzz.verdict import faults
from load_tests.service.stand_ins import open_stand_ins
from server.app import create_app
from server.settings import Settings
from tests.api.serving import NO_AUTH
from tests.commands import run

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
REQUEST = Request(0, "POST /v1/interleaved", b"POST", b"/v1/interleaved", (), b"{}")
STARTED = (
    b'event: document.started\ndata: {"type":"document.started","sequence":0,"id":"a","model":"b","created":1}\n\n'
)
FAILED = (
    b'event: document.failed\ndata: {"type":"document.failed","sequence":1,"error":{"code":"a","message":"b"},'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"image_tokens":0,"total_tokens":2,"images":0,'
    b'"denoising_steps":0,"length_limit":null}}\n\n'
)


@pytest.fixture(scope="module")
def description() -> Description:
    app = create_app(Settings(auth=NO_AUTH), open_stand_ins)  # type: ignore[arg-type]
    return Description.of(app.openapi())


@pytest.mark.timeout(900)
async def test_no_request_breaks_the_server(tmp_path: Path, description: Description) -> None:
    command = [sys.executable, "-m", "load_tests.fuzz", "--requests", "300", "--rest", "120", "--out", str(tmp_path)]
    output = await run(command, Path())
    result = json.loads((tmp_path / "result.json").read_text())

    assert result["passed"], output
    assert sum(result["statuses"].values()) == 300
    assert result["operations"].keys() == description.operations.keys()
    assert result["mutations"].keys() == {"none", *(mutation.__name__ for mutation in MUTATIONS)}


def test_a_number_and_a_seed_make_the_same_request_again(description: Description) -> None:
    def requests(seed: int) -> list[bytes]:
        operations = list(description.operations.values())
        return [draw_up(seed, number, operations, KnownIds(), {}).encoded() for number in range(300)]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)


def test_an_integer_that_no_float_holds_can_be_disturbed() -> None:
    held = []
    for seed in range(50):
        body = {"a": 10**400}
        disturb(Draft(random.Random(seed), "POST", "/", body=body))
        held.append(body["a"])
    assert f"{10**400}.0" in held


def test_what_is_not_json_comes_into_a_body_as_it_is() -> None:
    body = {"a": values.Raw("NaN"), "b": [values.Raw('"\\ud800"'), 'a "quoted" text', 1], "c": values.nested(3, "[]")}
    assert values.written(body) == b'{"a":NaN,"b":["\\ud800","a \\"quoted\\" text",1],"c":[[[1]]]}'


def test_pictures_for_bodies_are_made_of_all_kinds() -> None:
    dice = random.Random(0)
    made = [values.picture_url(dice) for _ in range(300)]
    assert {url.partition(":")[0] for url in made} >= {"data", "file", "https", "http"}


def verdict(description: Description, response: Response | None, request: Request = REQUEST) -> Iterator[str]:
    return faults(request, response, description)


def error(status: int, body: bytes, **headers: str) -> Response:
    return Response(status, {**JSON, **headers}, body, is_whole=True)


RIGHT_ERROR = b'{"error":{"message":"a","type":"invalid_request_error","param":null,"code":null}}'
BUSY = b'{"error":{"message":"a","type":"service_unavailable_error","param":null,"code":null}}'
OF_THE_SERVER = b'{"error":{"message":"a","type":"server_error","param":null,"code":null}}'


@pytest.mark.parametrize(
    "response",
    [
        error(400, RIGHT_ERROR),
        error(503, BUSY, **{"retry-after": "1"}),
        Response(200, EVENTS, STARTED + FAILED, is_whole=True),
        Response(200, EVENTS, b": keep-alive\n\n" + STARTED + b": keep-alive\n\n" + FAILED, is_whole=True),
        Response(200, {"content-type": "image/png"}, b"", is_whole=True),
    ],
)
def test_a_right_answer_has_no_faults(description: Description, response: Response) -> None:
    assert list(verdict(description, response)) == []


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        (None, "the connection was closed without an answer"),
        (error(500, OF_THE_SERVER), "500: "),
        (error(503, OF_THE_SERVER, **{"retry-after": "1"}), "503: "),
        (error(503, BUSY), "503 without Retry-After"),
        (error(400, b'{"detail":"a"}'), "400 has not the shape of an error"),
        (error(400, b"a"), "400 is no JSON"),
        (Response(400, {"content-type": "text/plain"}, b"a", is_whole=True), "400 is text/plain"),
        (Response(200, EVENTS, STARTED, is_whole=True), "a stream ends with"),
        (Response(200, EVENTS, STARTED + FAILED, is_whole=False), "a stream ends with"),
        (Response(200, EVENTS, b"data: {}\n\n", is_whole=True), "an event is not as it is described"),
        (Response(200, JSON, b'{"id":1}', is_whole=True), "the answer is not as it is described"),
        (Response(200, JSON, b'{"id', is_whole=False), "an answer of 4 bytes broke off"),
    ],
)
def test_a_wrong_answer_is_a_fault(description: Description, response: Response | None, fault: str) -> None:
    (found,) = verdict(description, response)
    assert found.startswith(fault)


def test_who_leaves_need_not_be_answered(description: Description) -> None:
    leaving = dataclasses.replace(REQUEST, leaves_after_s=0.1)
    assert list(verdict(description, None, leaving)) == []
    assert list(verdict(description, Response(200, EVENTS, STARTED, is_whole=False), leaving)) == []
