"""Conversations of ``/v1/responses``: sent along item by item, or gone on from a stored response."""

from typing import Any

import pytest
from openai.types.responses import Response, ResponseItemList
from PIL import Image

from server.pool.base import RenderError
from tests.api.chatting import data_url
from tests.api.responding import URL, respond
from tests.api.serving import Running, in_memory, on_socket, scripted_engine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS, Gate

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
LAST = (["Yes.", EOS],)
QUERIES = "".join(f"<dream_query_{i}>" for i in range(4))
COLOURS = {(255, 0, 0): "red", (0, 0, 255): "blue", (200, 30, 30): "drawn"}


def colour(pixels: Image.Image) -> str:
    return COLOURS[pixels.getpixel((0, 0))]  # type: ignore[index]


def seen(app: Running) -> str:
    """The context of the last answer, its pictures as their colours."""
    prompt = app.engine.calls[-1].prompt
    text: str = app.engine.tokenizer.decode(list(prompt.token_ids), skip_special_tokens=False)
    for image in prompt.images:
        text = text.replace("<im_patch>", f"<{colour(image.pixels)}>", 1)
    return text.removeprefix("<s>")


def drawn(colour: str) -> str:
    """How a picture that the model drew stands in the context."""
    return f"<dream_start>{QUERIES}<dream_end><im_start><{colour}><im_end>"


TOLD = f"ASSISTANT: Look: {drawn('drawn')} A cat, and {drawn('drawn')}the end.</s>"


def call(colour: str) -> dict[str, Any]:
    """A picture of an earlier answer, as OpenAI's."""
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": data_url(colour)[22:]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("delivery", ["inline", "url"])
async def test_a_response_goes_on_from_a_stored_one_with_its_pictures(delivery: str) -> None:
    async with in_memory(scripted_engine(*STORY, *LAST)) as app:
        await app.ready()
        first = await respond(app, images={"delivery": delivery})
        second = await respond(app, input="Really?", previous_response_id=first["id"])

        assert seen(app) == f"USER: Show me. {TOLD}USER: Really? ASSISTANT:"
    assert second["previous_response_id"] == first["id"]


async def test_a_response_goes_on_from_several() -> None:
    async with in_memory(scripted_engine(*STORY, *LAST, *LAST)) as app:
        await app.ready()
        first = await respond(app, input=[user("One."), {"role": "user", "content": "Two."}])
        second = await respond(app, input="Really?", previous_response_id=first["id"])
        await respond(app, input="Sure?", previous_response_id=second["id"])

        assert seen(app) == f"USER: One. USER: Two. {TOLD}USER: Really? ASSISTANT: Yes.</s>USER: Sure? ASSISTANT:"


async def test_instructions_are_those_of_the_last_request_alone() -> None:
    async with in_memory(scripted_engine(*LAST, *LAST)) as app:
        await app.ready()
        first = await respond(app, instructions="Be brief.", input="a")
        await respond(app, instructions="Be kind.", input="b", previous_response_id=first["id"])

        assert seen(app) == "Be kind. USER: a ASSISTANT: Yes.</s>USER: b ASSISTANT:"


@pytest.mark.parametrize("delivery", ["inline", "url"])
async def test_output_can_be_sent_back_as_it_came(delivery: str) -> None:
    pool = ScriptedPool([lambda job: [], [RenderError("render_failed", "out of paint")]])
    async with in_memory(scripted_engine(["Hm. ", DREAM], ["Again: ", DREAM], ["there.", EOS], *LAST), pool) as app:
        await app.ready()
        first = await respond(app, store=False, images={"delivery": delivery})
        await respond(app, input=[user("Show me."), *first["output"], user("Really?")])

        answer = f"ASSISTANT: Hm. Again: {drawn('drawn')}there.</s>"
        assert seen(app) == f"USER: Show me. {answer}USER: Really? ASSISTANT:"


async def test_what_openais_client_has_of_a_conversation_can_be_sent_back() -> None:
    async with in_memory(scripted_engine(*STORY, *LAST)) as app:
        await app.ready()
        first = await respond(app)
        output = [item.model_dump() for item in Response.model_validate(first).output]
        listing = await app.client.get(f"{URL}/{first['id']}/input_items")
        asked = [item.model_dump() for item in ResponseItemList.model_validate(listing.json()).data]
        await respond(app, input=[*asked, *output, user("Really?")])

        assert seen(app) == f"USER: Show me. {TOLD}USER: Really? ASSISTANT:"


@pytest.mark.parametrize("kind", ["item_reference", "image_generation_call", None])
async def test_items_of_stored_responses_can_be_named_by_their_ids(kind: str | None) -> None:
    async with in_memory(scripted_engine(*STORY, *LAST, *LAST)) as app:
        await app.ready()
        first = await respond(app)
        named = {"id": first["output"][1]["id"], **({"type": kind} if kind else {})}
        second = await respond(app, input=[user("Show me."), named, user("Really?")])
        assert seen(app) == f"USER: Show me. ASSISTANT: {drawn('drawn')}</s>USER: Really? ASSISTANT:"
        await respond(app, input="Sure?", previous_response_id=second["id"])

        assert f"Show me. ASSISTANT: {drawn('drawn')}</s>USER: Really? ASSISTANT: Yes.</s>USER: Sure?" in seen(app)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([{"role": "assistant", "content": "Hello."}], "Hello."),
        ([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}], "Hi."),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}], "No."),
        ([call("red"), call("blue")], drawn("red") + drawn("blue")),
        (
            [{"role": "assistant", "content": "a"}, call("red"), {"role": "assistant", "content": "b"}],
            f"a{drawn('red')}b",
        ),
        ([{"type": "image_generation_call", "id": "ig_1", "status": "failed", "result": None}], ""),
    ],
)
async def test_adjacent_items_of_an_answer_are_one_turn(items: list[dict[str, Any]], expected: str) -> None:
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        await respond(app, input=[user("a"), *items, user("b")])

        assert seen(app) == f"USER: a ASSISTANT: {expected}</s>USER: b ASSISTANT:"


async def test_pictures_of_the_user_stand_in_their_places() -> None:
    picture = {"type": "input_image", "image_url": data_url(), "detail": "high", "file_id": None}
    content = [{"type": "input_text", "text": "What is"}, picture, {"type": "input_text", "text": "this?"}]
    async with in_memory(scripted_engine(*LAST, *LAST)) as app:
        await app.ready()
        first = await respond(app, input=[{"type": "message", "role": "user", "content": content}])
        assert seen(app) == "USER: What is<im_start><red><im_end>this? ASSISTANT:"
        await respond(app, input="b", previous_response_id=first["id"])

        assert seen(app).startswith("USER: What is<im_start><red><im_end>this? ASSISTANT: Yes.</s>USER: b")


async def refused(app: Running, **body: Any) -> tuple[str, str]:
    """Field and code of a refusal."""
    response = await app.client.post(URL, json={"input": "a", **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["message"].startswith(f"{error['param']}: ")
    return error["param"], error["code"]


async def test_a_response_that_is_not_there_cannot_be_gone_on_from() -> None:
    async with in_memory(scripted_engine(*LAST, *LAST, *LAST)) as app:
        await app.ready()
        unstored = await respond(app, store=False)
        first = await respond(app)
        second = await respond(app, previous_response_id=first["id"])
        await app.client.delete(f"{URL}/{first['id']}")

        missing = ("previous_response_id", "previous_response_not_found")
        assert await refused(app, previous_response_id="resp_0") == missing
        assert await refused(app, previous_response_id=unstored["id"]) == missing
        assert await refused(app, previous_response_id=second["id"]) == missing


async def test_a_response_that_has_not_ended_well_cannot_be_gone_on_from() -> None:
    gate = Gate()
    async with on_socket(scripted_engine(["Once", gate], ["Oh", RuntimeError("broken")], *LAST)) as app:
        running = await respond(app, background=True)
        await gate.reached.wait()
        unfinished = await refused(app, previous_response_id=running["id"])
        await app.client.post(f"{URL}/{running['id']}/cancel")
        cancelled = await refused(app, previous_response_id=running["id"])
        broken = await app.client.post(URL, json={"input": "a", "stream": True})
        failed = await refused(app, previous_response_id=broken.headers["x-document-id"])

    assert unfinished == ("previous_response_id", "response_in_progress")
    assert cancelled == failed == ("previous_response_id", "response_unfinished")


async def test_an_incomplete_response_can_be_gone_on_from() -> None:
    async with in_memory(scripted_engine(["abcdef", EOS], *LAST)) as app:
        await app.ready()
        first = await respond(app, max_output_tokens=3)
        await respond(app, input="b", previous_response_id=first["id"])

        assert seen(app) == "USER: Show me. ASSISTANT: abc</s>USER: b ASSISTANT:"


async def test_items_that_are_not_there_are_refused_by_their_place() -> None:
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        first = await respond(app)
        beyond = first["output"][0]["id"].removesuffix("_0") + "_1"

        for id in ("msg_1", "ig_0_0", "rs_1", beyond):
            param, _ = await refused(app, input=[{"type": "item_reference", "id": id}, user("b")])
            assert param == "input[0].id"


async def test_pictures_of_earlier_responses_count_as_pictures_of_the_request() -> None:
    async with in_memory(scripted_engine(*STORY), limits={"input_images": 1}) as app:
        await app.ready()
        first = await respond(app)

        assert await refused(app, previous_response_id=first["id"]) == ("previous_response_id", "too_many_images")


async def test_a_conversation_may_not_have_too_many_parts() -> None:
    async with in_memory(scripted_engine(*[*LAST] * 4), limits={"input_parts": 5}) as app:
        await app.ready()
        previous = None
        for _ in range(3):
            previous = (await respond(app, previous_response_id=previous))["id"]

        assert await refused(app, previous_response_id=previous) == ("previous_response_id", "too_many_parts")
