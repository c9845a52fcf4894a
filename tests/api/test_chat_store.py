"""Stored chat completions: they are finished whoever leaves, can be had again, and forgotten."""

import pytest

from tests.api.chatting import QUESTION, URL, chat, chunks, deltas
from tests.api.serving import in_memory, on_socket, scripted_engine
from tests.scripted.script import DREAM, EOS, Gate

STORY = (["Look: ", DREAM], ["the end.", EOS])


@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_a_stored_answer_can_be_had_again(image_output: str) -> None:
    body = {"store": True, "image_output": image_output, "logprobs": True, "metadata": {"topic": "cats"}}
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        first = await chat(app, **body)
        again = await app.client.get(f"{URL}/{first['id']}")

    assert again.status_code == 200
    assert again.json() == first
    assert first["metadata"] == {"topic": "cats"}


async def test_an_answer_that_was_streamed_can_be_had_whole() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        stream = await chunks(app, store=True)
        whole = (await app.client.get(f"{URL}/{stream[0]['id']}")).json()

    message = whole["choices"][0]["message"]
    assert message["content"] == "".join(delta.get("content", "") for delta in deltas(stream))
    assert message["images"] == [image for delta in deltas(stream) for image in delta.get("images", [])]


async def test_a_stored_answer_is_finished_although_its_caller_left() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate, " more.", EOS])) as app:
        body = {"messages": QUESTION, "store": True, "stream": True}
        async with app.client.stream("POST", URL, json=body) as response:
            completion_id = response.headers["x-document-id"]
            await gate.reached.wait()
        gate.open()
        whole = (await app.client.get(f"{URL}/{completion_id}")).json()

    assert whole["choices"][0]["message"]["content"] == "Once more."


async def test_an_answer_that_is_not_stored_cannot_be_had_again() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        first = await chat(app)
        again = await app.client.get(f"{URL}/{first['id']}")

    assert again.status_code == 404
    assert again.json()["error"]["code"] == "document_not_found"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_answers_of_other_surfaces_are_not_found(method: str) -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        document = (await app.client.post("/v1/interleaved", json={"input": "Show me.", "store": True})).json()
        response = await app.client.request(method, f"{URL}/{document['id']}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"


async def test_a_stored_answer_can_be_forgotten() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        first = await chat(app, store=True)
        deleted = await app.client.delete(f"{URL}/{first['id']}")
        again = await app.client.get(f"{URL}/{first['id']}")

    assert deleted.json() == {"id": first["id"], "object": "chat.completion.deleted", "deleted": True}
    assert again.status_code == 404
