"""``/v1/responses``, whole: text and pictures as output items, and all that OpenAI's clients read of a response."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from server.pool.base import RenderError
from tests.api.responding import respond, texts
from tests.api.serving import Running, in_memory, scripted_engine
from tests.scripted.engine import scripted_logprobs
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def test_every_part_is_an_output_item_in_its_place() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        response = await respond(app)

    assert [item["type"] for item in response["output"]] == [
        "message",
        "image_generation_call",
        "message",
        "image_generation_call",
        "message",
    ]
    assert texts(response) == ["Look: ", None, " A cat, and ", None, "the end."]
    hexadecimal = response["id"].removeprefix("resp_")
    assert [item["id"] for item in response["output"]] == [
        f"{prefix}_{hexadecimal}_{index}" for index, prefix in enumerate(("msg", "ig", "msg", "ig", "msg"))
    ]
    assert {item["status"] for item in response["output"]} == {"completed"}
    picture = response["output"][1]
    assert Image.open(io.BytesIO(base64.b64decode(picture["result"], validate=True))).size == (64, 64)
    assert (picture["size"], picture["output_format"], picture["revised_prompt"]) == ("64x64", "png", None)
    assert "url" not in picture


async def test_a_response_says_what_was_asked_and_what_it_cost(running: Running) -> None:
    body = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"topic": "cats"},
        "temperature": 0,
        "tools": [{"type": "image_generation", "size": "32x32"}],
        "user": "me",
        "safety_identifier": "i",
        "prompt_cache_key": "k",
        "service_tier": "flex",
    }
    response = await respond(running, **body)

    assert {name: response[name] for name in body if name not in ("tools", "service_tier")} == {
        name: value for name, value in body.items() if name not in ("tools", "service_tier")
    }
    assert response["tools"][0].items() >= body["tools"][0].items()  # type: ignore[index]
    assert response["object"] == "response"
    assert response["model"] == "scripted"
    assert response["status"] == "completed"
    assert response["service_tier"] == "default"
    assert response["top_p"] == 0.9
    assert response["text"]["format"] == {"type": "text"}
    assert (response["tool_choice"], response["truncation"], response["store"]) == ("auto", "disabled", True)
    assert response["error"] is response["incomplete_details"] is response["previous_response_id"] is None
    usage = response["usage"]
    assert usage["output_tokens"] == len("Hello.") + 1
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens_details"]["cached_tokens"] == usage["output_tokens_details"]["reasoning_tokens"] == 0


async def test_instructions_come_before_what_is_said() -> None:
    async with in_memory(scripted_engine(["a", EOS], ["a", EOS])) as app:
        await app.ready()
        await respond(app, instructions="Be brief.")
        await respond(
            app, input=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Show me."}]
        )
        first, second = (call.prompt for call in app.engine.calls[-2:])

    assert first == second
    context = app.engine.tokenizer.decode(list(first.token_ids))
    assert context.startswith("Be brief. USER: Show me.")


async def test_sampling_reaches_the_engine() -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        body = {"temperature": 0.3, "top_p": 0.4, "top_k": 5, "seed": 7, "max_output_tokens": 9, "min_p": 0.1}
        await respond(app, **body, presence_penalty=0.5)
        sampling = app.engine.calls[-1].sampling

    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.3, 0.4, 5, 9)
    assert (sampling.min_p, sampling.presence_penalty) == (0.1, 0.5)


async def test_a_response_that_reaches_its_limit_is_incomplete() -> None:
    async with in_memory(scripted_engine(["Look: ", DREAM], ["abcdef", EOS])) as app:
        await app.ready()
        response = await respond(app, max_output_tokens=9)

    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "completed", "incomplete"]
    assert texts(response) == ["Look: ", None, "ab"]


async def test_a_picture_that_fails_is_a_failed_call_in_its_place() -> None:
    pool = ScriptedPool([lambda job: [], [RenderError("render_failed", "out of paint")]])
    async with in_memory(scripted_engine(["Look: ", DREAM], ["Oh.", EOS]), pool) as app:
        await app.ready()
        response = await respond(app)

    assert response["status"] == "completed"
    failed = response["output"][1]
    assert (failed["status"], failed["result"]) == ("failed", None)
    assert failed["error"] == {
        "code": "render_failed",
        "message": "out of paint",
        "param": None,
        "type": "server_error",
    }


async def test_a_picture_is_delivered_as_a_link_if_that_is_asked_for() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        picture = (await respond(app, images={"delivery": "url", "format": "webp"}))["output"][1]
        file = await app.client.get(picture["url"])

    assert picture["result"] is None
    assert picture["url"].startswith("http://dreamserve/v1/files/images/file_")
    assert file.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "image_generation", "size": "32x48", "output_format": "jpeg"}]},
        {"images": {"size": "32x48", "format": "jpeg"}},
        {"tools": [{"type": "image_generation", "size": "32x48"}], "images": {"size": "32x48", "format": "jpeg"}},
        {"tools": [{"type": "image_generation", "size": "auto"}], "images": {"size": "32x48", "format": "jpeg"}},
    ],
)
async def test_pictures_are_drawn_as_the_tool_or_the_images_field_says(body: dict[str, Any]) -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        picture = (await respond(app, **body))["output"][1]

    assert (picture["size"], picture["output_format"]) == ("32x48", "jpeg")


async def test_the_images_field_says_what_the_tool_cannot() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        await respond(app, images={"steps": 2, "guidance_scale": 2.0, "seed": 3, "negative_prompt": "blurry"})
        job = app.pool.jobs[-1]

    assert (job.steps, job.guidance_scale) == (2, 2.0)
    assert job.negative_states is not None


@pytest.mark.parametrize(
    ("body", "pictures"),
    [
        ({"tool_choice": "none"}, 0),
        ({"tool_choice": "none", "tools": [{"type": "image_generation"}]}, 0),
        ({"text": {"format": {"type": "json_object"}}}, 0),
        ({"max_tool_calls": 0}, 0),
        ({"max_tool_calls": 100, "images": {"max": 0}}, 0),
        ({"images": {"max": 0}}, 0),
        ({"max_tool_calls": 1}, 1),
    ],
)
async def test_pictures_can_be_barred(body: dict[str, Any], pictures: int) -> None:
    turns = [*[["Look: ", DREAM]] * pictures, ["{}", EOS]]
    async with in_memory(scripted_engine(*turns)) as app:
        await app.ready()
        await respond(app, **body)
        banned = [app.engine.config.dream_token_id in call.sampling.banned_token_ids for call in app.engine.calls[1:]]

    assert banned == [*[False] * pictures, True]


@pytest.mark.parametrize(
    ("format", "schema"),
    [
        ({"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}, '{"type":"object","properties":'),
        ({"type": "json_object"}, '{"type":"object"}'),
    ],
)
async def test_json_is_asked_of_the_engine(format: dict[str, Any], schema: str) -> None:
    async with in_memory(scripted_engine(["{}", EOS])) as app:
        await app.ready()
        response = await respond(app, text={"format": format})
        again = await app.client.get(f"/v1/responses/{response['id']}")
        sampling = app.engine.calls[-1].sampling

    assert sampling.json_schema is not None
    assert sampling.json_schema.startswith(schema)
    assert response["text"]["format"].items() >= format.items()
    assert again.json() == response


async def test_log_probabilities_are_told_if_they_are_included() -> None:
    async with in_memory(scripted_engine(["a", EOS], ["a", EOS])) as app:
        await app.ready()
        told = await respond(app, include=["message.output_text.logprobs"], top_logprobs=2)
        untold = await respond(app)
        [token_id] = app.engine.tokenizer.encode("a", add_special_tokens=False).ids

    [logprob] = told["output"][0]["content"][0]["logprobs"]
    assert (logprob["token"], logprob["bytes"]) == ("a", [ord("a")])
    assert logprob["logprob"] == pytest.approx(scripted_logprobs([token_id], 0)[0].logprob)
    assert len(logprob["top_logprobs"]) == 2
    assert untold["output"][0]["content"][0]["logprobs"] == []


async def test_a_response_that_cannot_be_finished_is_an_error() -> None:
    async with in_memory(scripted_engine(["a", RuntimeError("broken")])) as app:
        await app.ready()
        response = await app.client.post("/v1/responses", json={"input": "a"})

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"


async def test_events_are_described_where_routes_refer_to_them(running: Running) -> None:
    description = (await running.client.get("/openapi.json")).json()

    content = description["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["$ref"] == "#/components/schemas/Response"
    data = content["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert data["contentSchema"]["$ref"] == "#/components/schemas/ResponseStreamEvent"
    events = description["components"]["schemas"]["ResponseStreamEvent"]
    assert "response.output_text.delta" in events["discriminator"]["mapping"]
