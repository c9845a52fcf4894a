"""Stored responses: had again, made in the background, ended, listed and forgotten by their ids."""

from typing import Any

import pytest
from openai.types.responses import ResponseItemList

from tests.api.chatting import data_url
from tests.api.responding import URL, checked, respond, stored
from tests.api.serving import in_memory, on_socket, scripted_engine, until
from tests.scripted.script import DREAM, EOS, Gate

STORY = (["Look: ", DREAM], ["the end.", EOS])


async def test_a_response_is_stored_unless_that_is_barred() -> None:
    async with in_memory(scripted_engine(*STORY, *STORY)) as app:
        await app.ready()
        kept = await respond(app, metadata={"topic": "cats"}, tools=[{"type": "image_generation"}])
        again = await stored(app, kept["id"])
        unkept = await respond(app, store=False)
        missing = await app.client.get(f"{URL}/{unkept['id']}")

    assert again == kept
    assert (kept["store"], unkept["store"]) == (True, False)
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "document_not_found"


async def test_a_stored_response_is_finished_although_its_caller_left() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, " more.", EOS])) as app:
        async with app.client.stream("POST", URL, json={"input": "a", "stream": True}) as response:
            response_id = response.headers["x-document-id"]
            await gate.reached.wait()
        gate.open()
        await until(lambda: not app.service.documents)
        whole = await stored(app, response_id)

    assert whole["output"][0]["content"][0]["text"] == "Once more."


async def test_a_background_response_is_answered_at_once_and_can_be_asked_for_until_it_is_finished() -> None:
    gate = Gate()
    async with in_memory(scripted_engine(["Once", gate, " more.", EOS]), journal={"abandon_after_s": 0.01}) as app:
        await app.ready()
        begun = await respond(app, background=True)
        await gate.reached.wait()
        meanwhile = await stored(app, begun["id"])
        gate.open()
        await until(lambda: not app.service.documents)
        finished = await stored(app, begun["id"])

    assert (begun["status"], begun["background"], begun["usage"]) == ("in_progress", True, None)
    assert meanwhile["status"] == "in_progress"
    assert meanwhile["output"][0]["status"] == "in_progress"
    assert finished["status"] == "completed"
    assert finished["output"][0]["content"][0]["text"] == "Once more."


@pytest.mark.parametrize("background", [True, False])
async def test_a_response_is_ended_by_its_id(background: bool) -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate])) as app:
        body = {"input": "a", "stream": True, "background": background}
        async with app.client.stream("POST", URL, json=body) as response:
            await gate.reached.wait()
        path = f"{URL}/{response.headers['x-document-id']}"
        ended = await app.client.post(f"{path}/cancel")
        again = await app.client.post(f"{path}/cancel")

    cancelled = checked(ended.status_code, ended.text)
    assert cancelled["status"] == "cancelled"
    assert cancelled["output"][0]["content"][0]["text"] == "Once"
    assert again.json() == cancelled
    assert len(app.engine.requests.aborted) == 1


async def test_a_finished_response_stays_as_it_is_when_it_is_cancelled() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        first = await respond(app)
        cancelled = await app.client.post(f"{URL}/{first['id']}/cancel")

    assert cancelled.json() == first


async def test_a_response_can_be_forgotten() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        first = await respond(app)
        deleted = await app.client.delete(f"{URL}/{first['id']}")
        again = await app.client.get(f"{URL}/{first['id']}")

    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")],
)
async def test_answers_of_other_surfaces_are_not_found(method: str, path: str) -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "a", "store": True})).json()
        response = await app.client.request(method, f"{URL}/{document['id']}{path}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"


async def items(app: Any, response_id: str, **params: Any) -> dict[str, Any]:
    """Listed input items."""
    response = await app.client.get(f"{URL}/{response_id}/input_items", params=params)
    assert response.status_code == 200, response.text
    ResponseItemList.model_validate_json(response.text)
    listing: dict[str, Any] = response.json()
    return listing


async def test_input_items_are_listed_as_they_were_sent() -> None:
    picture = {"type": "input_image", "image_url": data_url(), "detail": "auto"}
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, picture]},
        {"role": "assistant", "content": "A square."},
        {"role": "user", "content": "Really?"},
    ]
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        response = await respond(app, input=said, instructions="Be brief.")
        listing = await items(app, response["id"], order="asc")
        latest = await items(app, response["id"], limit=1)
        before = await items(app, response["id"], after=latest["last_id"])
        unknown = await app.client.get(f"{URL}/{response['id']}/input_items", params={"after": "x"})

    assert [item["role"] for item in listing["data"]] == ["user", "assistant", "user"]
    assert listing["data"][0]["content"][1].items() >= picture.items()
    assert [item["content"][0]["text"] for item in listing["data"]] == ["What is this?", "A square.", "Really?"]
    assert (listing["first_id"], listing["last_id"]) == (listing["data"][0]["id"], listing["data"][2]["id"])
    assert (latest["data"], latest["has_more"]) == (listing["data"][2:], True)
    assert (before["data"], before["has_more"]) == (listing["data"][1::-1], False)
    assert unknown.json()["error"]["param"] == "after"
