"""What responses cannot do is refused by the name of its field, and nothing is started."""

from typing import Any

import pytest

from tests.api.chatting import data_url
from tests.api.responding import URL, respond
from tests.api.serving import Running

USER = {"role": "user", "content": "a"}
TOOL = {"type": "image_generation"}
SCHEMA = {"type": "json_schema", "name": "a", "schema": {"type": "object"}}
CALL = {"type": "image_generation_call", "id": "ig_1", "status": "completed"}
INVALID = "invalid_value"
UNSUPPORTED = "unsupported_parameter"
MISSING = "missing_required_parameter"

BAD_REQUESTS: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "invalid_type"),
    ({"input": 5}, "input", "invalid_type"),
    ({"input": []}, "input", INVALID),
    ({"input": ["a"]}, "input[0]", "invalid_type"),
    ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role", INVALID),
    ({"input": [{"role": "user"}]}, "input[0].content", MISSING),
    ({"input": [{"role": "user", "content": []}]}, "input[0].content", INVALID),
    ({"input": [{"role": "user", "content": "a", "name": "b"}]}, "input[0].name", "unknown_parameter"),
    ({"input": [{"type": "function_call_output", "call_id": "1", "output": ""}]}, "input[0]", INVALID),
    ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input[0]", INVALID),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "a"}]}]},
        "input[0].content[0].type",
        INVALID,
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "a"}]}]},
        "input[0].content[0].image_url",
        MISSING,
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_url(), "file_id": "a"}]}]},
        "input[0].content[0].file_id",
        UNSUPPORTED,
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b.png"}]}]},
        "input[0].content[0].image_url",
        "unsupported_image_url",
    ),
    (
        {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}]},
        "input[0].content[0].type",
        INVALID,
    ),
    ({"input": [USER, {**CALL, "result": "AAAA"}]}, "input[1].result", "unsupported_image_format"),
    ({"input": [USER, {**CALL, "url": "https://a/b.png"}]}, "input[1].url", "unsupported_image_url"),
    ({"input": [USER, CALL]}, "input[1].id", "item_not_found"),
    ({"input": [USER, {"type": "image_generation_call", "result": None}]}, "input[1].result", MISSING),
    ({"tools": [{"type": "function", "name": "f"}]}, "tools[0].type", INVALID),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", INVALID),
    ({"tools": [TOOL, TOOL]}, "tools", INVALID),
    ({"tools": [{**TOOL, "quality": "high"}]}, "tools[0].quality", INVALID),
    ({"tools": [{**TOOL, "background": "transparent"}]}, "tools[0].background", INVALID),
    ({"tools": [{**TOOL, "moderation": "low"}]}, "tools[0].moderation", INVALID),
    ({"tools": [{**TOOL, "model": "gpt-image-1"}]}, "tools[0].model", INVALID),
    ({"tools": [{**TOOL, "action": "edit"}]}, "tools[0].action", INVALID),
    ({"tools": [{**TOOL, "input_image_mask": {"file_id": "a"}}]}, "tools[0].input_image_mask", UNSUPPORTED),
    ({"tools": [{**TOOL, "size": "32x33"}]}, "tools[0].size", INVALID),
    ({"tools": [{**TOOL, "size": "large"}]}, "tools[0].size", INVALID),
    ({"tools": [{**TOOL, "size": "32x32"}], "images": {"size": "64x64"}}, "tools[0].size", INVALID),
    ({"tools": [{**TOOL, "output_format": "webp"}], "images": {"format": "png"}}, "tools[0].output_format", INVALID),
    ({"tools": [{**TOOL, "partial_images": 1}], "images": {"previews": 2}}, "tools[0].partial_images", INVALID),
    ({"tools": [{**TOOL, "partial_images": 4}]}, "tools[0].partial_images", INVALID),
    ({"tool_choice": "required"}, "tool_choice", INVALID),
    ({"tool_choice": {"type": "image_generation"}}, "tool_choice", INVALID),
    ({"tool_choice": "none", "images": {"max": 1}}, "images.max", INVALID),
    ({"max_tool_calls": 1, "images": {"max": 2}}, "images.max", INVALID),
    ({"max_tool_calls": -1}, "max_tool_calls", INVALID),
    ({"images": {"size": "32x33"}}, "images.size", INVALID),
    ({"images": {"max": 9}}, "images.max", INVALID),
    ({"images": {"quality": "hd"}}, "images.quality", "unknown_parameter"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", INVALID),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", MISSING),
    ({"text": {"format": SCHEMA}, "tools": [TOOL]}, "text.format", INVALID),
    ({"text": {"format": SCHEMA}, "images": {"max": 1}}, "images.max", INVALID),
    ({"text": {"verbosity": "low"}}, "text.verbosity", INVALID),
    ({"background": True, "store": False}, "background", INVALID),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options", INVALID),
    ({"top_logprobs": 2}, "top_logprobs", INVALID),
    ({"top_logprobs": 21, "include": ["message.output_text.logprobs"]}, "top_logprobs", INVALID),
    ({"include": ["everything"]}, "include[0]", INVALID),
    ({"max_output_tokens": 0}, "max_output_tokens", INVALID),
    ({"temperature": 2.5}, "temperature", INVALID),
    ({"top_p": 0}, "top_p", INVALID),
    ({"truncation": "auto"}, "truncation", INVALID),
    ({"metadata": {"a": "b" * 513}}, "metadata.a", INVALID),
    ({"service_tier": "gold"}, "service_tier", INVALID),
    ({"conversation": "conv_1"}, "conversation", UNSUPPORTED),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", UNSUPPORTED),
    ({"reasoning": {"effort": "low"}}, "reasoning", UNSUPPORTED),
    ({"moderation": {"model": "m"}}, "moderation", UNSUPPORTED),
    ({"context_management": [{"type": "compaction"}]}, "context_management", UNSUPPORTED),
    ({"instructions": [USER]}, "instructions", "invalid_type"),
    ({"messages": [USER]}, "messages", "unknown_parameter"),
    ({"input": "a" * 3000}, "input", "invalid_prompt"),
]


@pytest.mark.parametrize(
    ("body", "param", "code"), BAD_REQUESTS, ids=[f"{r[1]}-{i}" for i, r in enumerate(BAD_REQUESTS)]
)
async def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(
    running: Running, body: dict[str, Any], param: str, code: str
) -> None:
    calls = len(running.engine.calls)

    response = await running.client.post(URL, json={"input": "a", **body})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: ")
    assert len(running.engine.calls) == calls


async def test_a_model_that_is_not_served_is_not_found(running: Running) -> None:
    response = await running.client.post(URL, json={"input": "a", "model": "gpt"})

    assert response.status_code == 404
    assert response.json()["error"]["param"] == "model"


async def test_what_clients_send_without_effect_is_taken(running: Running) -> None:
    body = {
        "model": "scripted",
        "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": True,
        "prompt_cache_key": "a",
        "prompt_cache_retention": "24h",
        "reasoning": None,
        "service_tier": "auto",
        "text": {"verbosity": "medium"},
        "tools": [],
        "truncation": "disabled",
        "user": "me",
    }
    assert (await respond(running, **body))["status"] == "completed"


@pytest.mark.parametrize(
    ("query", "param"), [("starting_after=-1", "starting_after"), ("stream=perhaps", "stream"), ("limit=0", "limit")]
)
async def test_a_place_that_is_none_is_refused(running: Running, query: str, param: str) -> None:
    path = "resp_0/input_items" if param == "limit" else "resp_0"
    response = await running.client.get(f"{URL}/{path}?{query}")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
