"""Chat completions in ``/openapi.json``."""

from typing import Any

import pytest
from fastapi.openapi.utils import get_openapi

from server.app import create_app
from server.settings import Settings
from tests.api.serving import NO_AUTH, Running, scripted_backend, scripted_engine
from tests.scripted.pool import ScriptedPool


@pytest.fixture
async def schema(running: Running) -> dict[str, Any]:
    described: dict[str, Any] = (await running.client.get("/openapi.json")).json()
    return described


async def test_an_answer_is_described_whole_and_as_a_stream(schema: dict[str, Any]) -> None:
    content = schema["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]

    assert content["application/json"]["schema"]["$ref"].endswith("/ChatCompletion")
    done, chunk = content["text/event-stream"]["itemSchema"]["properties"]["data"]["anyOf"]
    assert done == {"const": "[DONE]"}
    assert chunk["contentSchema"]["anyOf"][0]["$ref"].endswith("/ChatCompletionChunk")
    assert "choices" in schema["components"]["schemas"]["ChatCompletionChunk"]["properties"]


async def test_every_field_of_a_request_is_described(schema: dict[str, Any]) -> None:
    fields = schema["components"]["schemas"]["ChatCompletionRequest"]["properties"]

    assert [field for field, of in fields.items() if "description" not in of] == []


async def test_types_of_streams_and_responses_do_not_share_names() -> None:
    app = create_app(Settings(auth=NO_AUTH), scripted_backend(scripted_engine(), ScriptedPool()))  # type: ignore[arg-type]
    of_routes = get_openapi(title=app.title, version=app.version, routes=app.routes)["components"]["schemas"]
    of_all = app.openapi()["components"]["schemas"]

    assert {name: shape(of_all[name]) for name in of_routes} == {name: shape(of) for name, of in of_routes.items()}


def shape(described: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one type from another of the same name."""
    return described.get("properties", {}).keys(), described.get("required"), described.get("enum")
