"""Every failure has OpenAI's shape."""

from typing import Any

import pytest

from server.llm.engine import EngineDeadError, EngineError, SamplingError
from tests.api.serving import Running, in_memory, scripted_engine
from tests.scripted.script import EOS


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("GET", "/v1/nothing", 404, "not_found", "there is nothing at GET /v1/nothing"),
        ("GET", "/v1/interleaved", 405, "method_not_allowed", "/v1/interleaved does not take GET"),
        ("GET", "/v1/models/gpt", 404, "model_not_found", "there is no model 'gpt'; 'scripted' is served"),
    ],
)
async def test_what_there_is_not(
    running: Running, method: str, path: str, status: int, code: str, message: str
) -> None:
    response = await running.client.request(method, path)

    assert response.status_code == status
    error = response.json()["error"]
    assert (error["type"], error["code"], error["message"]) == ("invalid_request_error", code, message)
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_that_is_too_large_is_refused_whether_or_not_its_length_is_told(told: bool) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b" " * 100

    async with in_memory(scripted_engine(), limits={"body_bytes": 1000}) as app:
        await app.ready()
        content = b" " * 2000 if told else pieces()
        response = await app.client.post("/v1/interleaved", content=content)
        fits = await app.client.post("/v1/interleaved", content=b'{"input": "a"}'.ljust(1000))

    assert response.status_code == 413
    assert response.json()["error"]["message"] == "the body has more than 1000 bytes"
    assert fits.status_code == 200


PART = {"type": "text", "text": "a"}
MUCH = {
    "parts": {"input": [PART] * 7000},
    "messages": {"messages": [{"role": "user", "content": [PART] * 100}] * 70},
    "unknown fields": {"input": "a", **{f"field {n}": 1 for n in range(20_000)}},
    "unknown fields further down": {"input": [{**PART, **{f"field {n}": 1 for n in range(20_000)}}]},
    "biases of no token": {"input": "a", "logit_bias": {f"token {n}": 1 for n in range(20_000)}},
    "lists in lists": {"input": [[[[PART] * 40] * 40] * 40]},
}


@pytest.mark.parametrize("body", MUCH.values(), ids=MUCH)
async def test_a_body_of_more_values_than_can_be_checked_at_once_is_refused(
    running: Running, body: dict[str, Any]
) -> None:
    response = await running.client.post("/v1/interleaved", json=body)

    assert response.status_code == 413
    assert response.json()["error"]["message"] == "the body has more than 20000 values"


async def test_a_body_that_may_hold_far_more_values_is_not_even_read(running: Running) -> None:
    response = await running.client.post("/v1/interleaved", content=b"[" * 1_000_001)

    assert response.status_code == 413


async def test_what_is_not_looked_at_may_be_as_much_as_it_likes(running: Running) -> None:
    token = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}
    said = {"type": "output_text", "text": "a", "annotations": [], "logprobs": [token] * 7000}
    turns = [{"role": "assistant", "content": [said]}, {"role": "user", "content": "Go on."}]
    response = await running.client.post("/v1/responses", json={"input": turns})

    assert response.status_code == 200, response.text


async def test_what_the_model_cannot_sample_names_the_field() -> None:
    engine = scripted_engine(refuses=SamplingError("logit_bias", "there is no token 9999"))
    async with in_memory(engine) as app:
        await app.ready()
        response = await app.client.post("/v1/interleaved", json={"input": "a", "logit_bias": {"9999": 1}})

    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "logit_bias: there is no token 9999",
        "type": "invalid_request_error",
        "param": "logit_bias",
        "code": "invalid_value",
    }


async def test_a_defect_is_a_500_that_tells_nothing_of_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_memory(scripted_engine()) as app:
        await app.ready()
        monkeypatch.setattr(app.service, "begin", lambda request: 1 / 0)
        response = await app.client.post("/v1/interleaved", json={"input": "a"})

    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": "internal server error",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [(EngineError("broken"), 500, "engine_error"), (EngineDeadError("dead"), 503, "engine_unavailable")],
)
async def test_an_engine_that_fails_ends_the_document_with_an_error(
    failure: EngineError, status: int, code: str
) -> None:
    async with in_memory(scripted_engine(["Once", failure], ["Once", failure])) as app:
        await app.ready()
        whole = await app.client.post("/v1/interleaved", json={"input": "a"})
        events = await app.events({"input": "a"})

    assert whole.status_code == status
    assert whole.json()["error"]["code"] == code
    assert events[-1].event == "document.failed"
    assert events[-1].json()["error"]["code"] == code


async def test_a_defect_while_a_document_is_made_ends_its_stream_with_an_error_event() -> None:
    async with in_memory(scripted_engine(["Once", ZeroDivisionError()], ["fine", EOS])) as app:
        await app.ready()
        events = await app.events({"input": "a"})
        next_one = await app.client.post("/v1/interleaved", json={"input": "a"})

    assert events[-1].event == "document.failed"
    assert events[-1].json()["error"]["code"] == "internal_error"
    assert next_one.status_code == 200
