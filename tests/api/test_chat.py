"""``/v1/chat/completions``, whole: OpenAI's shape, and the pictures wherever the caller wants them."""

import json
from typing import Any

import pytest
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from server.pool.base import RenderError
from server.schema.chat import ChatCompletionRequest
from tests.api.chatting import QUESTION, answer, chat, picture
from tests.api.serving import in_memory, scripted_engine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
TEXT = "Look:  A cat, and the end."
FAILING = [RenderError("render_failed", "out of paint")]


async def test_the_answer_has_openais_shape() -> None:
    async with in_memory(scripted_engine(["Hello.", EOS])) as app:
        await app.ready()
        completion = await chat(app)

    ChatCompletion.model_validate(completion, strict=True)
    assert completion["id"].startswith("chatcmpl-")
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "scripted"
    assert completion["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert "service_tier" not in completion


async def test_pictures_stand_beside_the_text_and_tell_their_places() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        message = await answer(app, images={"format": "webp"})

    assert message["content"] == TEXT
    assert [image["type"] for image in message["images"]] == ["image_url", "image_url"]
    assert [image["index"] for image in message["images"]] == [0, 1]
    assert [image["part"] for image in message["images"]] == [1, 3]
    assert [TEXT[: image["text_offset"]] for image in message["images"]] == ["Look: ", "Look:  A cat, and "]
    for image in message["images"]:
        assert picture(image["image_url"]["url"]).size == (image["width"], image["height"]) == (64, 64)
        assert picture(image["image_url"]["url"]).format == "WEBP"


async def test_pictures_can_stand_in_the_content() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        message = await answer(app, image_output="content")

    assert "images" not in message
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text", "image_url", "text"]
    assert [part["index"] for part in message["content"]] == [0, 1, 2, 3, 4]
    assert "".join(part["text"] for part in message["content"][::2]) == TEXT
    assert picture(message["content"][1]["image_url"]["url"]).size == (64, 64)


async def test_pictures_can_stand_in_the_text_as_markdown() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        message = await answer(app, image_output="markdown")

    assert "images" not in message
    first, second = (part.partition(")")[0] for part in message["content"].split("](")[1:])
    assert message["content"] == f"Look: ![image 1]({first}) A cat, and ![image 2]({second})the end."
    assert picture(first).size == picture(second).size == (64, 64)


async def test_an_answer_of_pictures_alone_has_empty_text() -> None:
    async with in_memory(scripted_engine([DREAM], [EOS])) as app:
        await app.ready()
        message = await answer(app)

    assert message["content"] == ""
    assert message["images"][0]["text_offset"] == 0


@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_a_picture_that_failed_is_visible(image_output: str) -> None:
    engine = scripted_engine(["Look: ", DREAM], ["Or: ", DREAM], ["Sorry.", EOS])
    pool = ScriptedPool([lambda job: [], FAILING])
    async with in_memory(engine, pool) as app:
        await app.ready()
        message = await answer(app, image_output=image_output)

    error = {"code": "render_failed", "message": "out of paint"}
    match image_output:
        case "images":
            failed = {"type": "failed_image", "index": 0, "part": 1, "text_offset": 6, "error": error}
            assert message["failed_images"] == [failed]
            assert [(image["index"], image["part"]) for image in message["images"]] == [(0, 3)]
        case "content":
            assert message["content"][1] == {"type": "failed_image", "index": 1, "error": error}
            assert message["content"][3]["type"] == "image_url"
        case "markdown":
            assert message["content"].startswith("Look: ![image 1 failed: render_failed]()Or: ![image 2](data:")


async def test_usage_has_openais_numbers_and_those_of_the_pictures() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        usage = (await chat(app))["usage"]

    CompletionUsage.model_validate(usage, strict=True)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == len(TEXT) + 3
    assert (usage["images"], usage["denoising_steps"]) == (2, 8)
    assert usage["image_tokens"] > 0


async def test_an_answer_that_met_its_limit_says_so() -> None:
    async with in_memory(scripted_engine(["abcdef", EOS], ["abcdef", EOS], ["abcdef", EOS])) as app:
        await app.ready()
        completions = [
            await chat(app, max_completion_tokens=3),
            await chat(app, max_tokens=3),
            await chat(app, max_tokens=3, max_completion_tokens=3),
        ]

    for completion in completions:
        assert completion["choices"][0]["message"]["content"] == "abc"
        assert completion["choices"][0]["finish_reason"] == "length"


async def test_how_text_is_sampled_reaches_the_engine() -> None:
    wanted = {
        "temperature": 0.3,
        "top_p": 0.8,
        "top_k": 7,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.6,
        "seed": 5,
    }
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        await chat(app, **wanted, logit_bias={"70": -3, "71": 2.5}, logprobs=True, top_logprobs=2)
        sampling = app.engine.calls[-1].sampling

    assert {name: getattr(sampling, name) for name in wanted} == wanted
    assert sampling.logit_bias == {70: -3, 71: 2.5}
    assert sampling.logprobs == 2


async def test_what_is_not_said_is_the_checkpoints_choice() -> None:
    async with in_memory(scripted_engine(["a", EOS])) as app:
        await app.ready()
        await chat(app)
        sampling = app.engine.calls[-1].sampling

    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 40)
    assert (sampling.min_p, sampling.repetition_penalty, sampling.logprobs) == (0, 1, None)


async def test_stop_strings_end_the_answer() -> None:
    async with in_memory(scripted_engine(["one two", EOS], ["one two", EOS])) as app:
        await app.ready()

        assert (await answer(app, stop=" two"))["content"] == "one"
        assert (await answer(app, stop=["zero", " two"]))["content"] == "one"


async def test_what_is_said_about_pictures_reaches_the_pool() -> None:
    images = {"size": "32x48", "steps": 7, "guidance_scale": 1.5, "scheduler": "ddim", "seed": 11, "previews": 2}
    async with in_memory(scripted_engine([DREAM], [EOS])) as app:
        await app.ready()
        message = await answer(app, images=images)
        job = app.pool.jobs[-1]

    assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (32, 48, 7, 1.5, "ddim")
    assert message["images"][0]["seed"] == job.seed == 11
    assert job.previews == 0


@pytest.mark.parametrize(
    ("body", "pictures"),
    [
        ({}, True),
        ({"modalities": ["text", "image"]}, True),
        ({"modalities": ["text"]}, False),
        ({"modalities": ["text"], "images": {"max": 0}}, False),
        ({"images": {"max": 0}}, False),
        ({"response_format": {"type": "text"}}, True),
        ({"response_format": {"type": "json_object"}}, False),
    ],
)
async def test_pictures_are_barred_from_answers_of_text_alone(body: dict[str, Any], pictures: bool) -> None:
    async with in_memory(scripted_engine(["{}", EOS])) as app:
        await app.ready()
        await chat(app, **body)
        sampling = app.engine.calls[-1].sampling
        dream = app.engine.config.dream_token_id

    assert (dream in sampling.stop_token_ids) == pictures
    assert (dream in sampling.banned_token_ids) != pictures


async def test_a_json_schema_reaches_the_engine() -> None:
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    named = {"name": "size", "description": "How large.", "strict": True, "schema": schema}
    async with in_memory(scripted_engine(["{}", EOS], ["{}", EOS])) as app:
        await app.ready()
        await chat(app, response_format={"type": "json_schema", "json_schema": named}, modalities=["text"])
        await chat(app, response_format={"type": "json_object"})
        first, second = (call.sampling.json_schema for call in app.engine.calls[-2:])

    assert json.loads(first or "") == schema
    assert json.loads(second or "") == {"type": "object"}


async def test_ignore_eos_bars_the_end() -> None:
    async with in_memory(scripted_engine(["abcdef"])) as app:
        await app.ready()
        completion = await chat(app, ignore_eos=True, max_completion_tokens=4, modalities=["text"])
        sampling = app.engine.calls[-1].sampling

    assert app.engine.eos_token_id in sampling.banned_token_ids
    assert sampling.stop_token_ids == ()
    assert completion["choices"][0]["finish_reason"] == "length"


async def test_log_probabilities_line_up_with_the_text() -> None:
    async with in_memory(scripted_engine(["Hé ", DREAM], ["you", EOS])) as app:
        await app.ready()
        choice = (await chat(app, logprobs=True, top_logprobs=2))["choices"][0]

    tokens = choice["logprobs"]["content"]
    assert choice["message"]["content"] == "Hé you"
    assert len(tokens) == len("Hé you".encode())
    assert [token["token"] for token in [tokens[0], *tokens[-3:]]] == ["H", "y", "o", "u"]
    assert tokens[0]["bytes"] == [ord("H")]
    for token in tokens:
        assert token["logprob"] < 0
        assert [top.keys() for top in token["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 2


async def test_null_is_the_default_of_whatever_has_one() -> None:
    body = dict.fromkeys(ChatCompletionRequest.model_fields) | {"messages": QUESTION}
    async with in_memory(scripted_engine(["Hello.", EOS])) as app:
        await app.ready()

        assert (await answer(app, **body))["content"] == "Hello."


NO_EFFECT = {
    "user": "me",
    "safety_identifier": "me",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "parallel_tool_calls": False,
    "tool_choice": "none",
    "tools": [],
    "functions": [],
    "store": False,
    "metadata": {"a": "b"},
    "n": 1,
}


async def test_fields_without_effect_have_none() -> None:
    async with in_memory(scripted_engine(["Hello.", EOS], ["Hello.", EOS])) as app:
        await app.ready()
        plain, full = await chat(app, seed=1), await chat(app, seed=1, **NO_EFFECT)
        first, second = app.engine.calls[-2:]

    assert first.sampling == second.sampling
    assert first.prompt == second.prompt
    assert {**plain, "id": "", "created": 0} == {**full, "id": "", "created": 0}


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority"])
async def test_the_answer_names_the_one_service_tier_there_is(tier: str) -> None:
    async with in_memory(scripted_engine(["Hello.", EOS])) as app:
        await app.ready()

        assert (await chat(app, service_tier=tier))["service_tier"] == "default"


async def test_a_document_that_cannot_be_finished_is_an_error() -> None:
    async with in_memory(scripted_engine(["Hello", RuntimeError("broken")])) as app:
        await app.ready()
        response = await app.client.post("/v1/chat/completions", json={"messages": QUESTION})

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
