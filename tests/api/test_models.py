"""``/v1/models`` and the description of the API."""

from typing import Any

from tests.api.serving import Running, in_memory


async def test_the_one_model_is_listed_and_found(running: Running) -> None:
    listed = (await running.client.get("/v1/models")).json()
    found = (await running.client.get("/v1/models/scripted")).json()

    assert listed == {"object": "list", "data": [found]}
    assert found["id"] == "scripted"
    assert found["sampling"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    assert found["images"] == {
        "max": 8,
        "size": "64x64",
        "size_multiple": 16,
        "steps": 4,
        "guidance_scale": 3.0,
        "scheduler": "ddpm",
    }


async def test_a_model_whose_name_has_slashes_is_found() -> None:
    async with in_memory(model={"served_name": "org/model"}) as app:
        await app.ready()
        found = await app.client.get("/v1/models/org/model")

    assert found.json()["id"] == "org/model"


async def test_the_description_has_no_loose_ends(running: Running) -> None:
    schema = (await running.client.get("/openapi.json")).json()

    assert set(references(schema)) <= {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}


async def test_the_description_tells_of_events_and_errors(running: Running) -> None:
    schema = (await running.client.get("/openapi.json")).json()
    responses = schema["paths"]["/v1/interleaved"]["post"]["responses"]
    events = schema["components"]["schemas"]["InterleavedEvent"]["discriminator"]["mapping"]

    assert {"text/event-stream", "application/json"} == responses["200"]["content"].keys()
    assert len(events) == 9
    assert "422" not in responses
    assert responses["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")


async def test_every_field_of_a_request_is_described(running: Running) -> None:
    schemas = (await running.client.get("/openapi.json")).json()["components"]["schemas"]

    for name in ("InterleavedRequest", "ImageOptions"):
        undescribed = [field for field, of in schemas[name]["properties"].items() if "description" not in of]
        assert undescribed == []


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []
