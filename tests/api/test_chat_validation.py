"""What chat completions cannot do is refused by the name of its field, and nothing is started."""

from typing import Any

import pytest

from server.llm.engine import SamplingError
from tests.api.chatting import QUESTION, URL, data_url
from tests.api.serving import Running, in_memory
from tests.scripted.engine import ScriptedEngine

USER = {"role": "user", "content": "a"}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PICTURE = {"type": "image_url", "image_url": {"url": data_url()}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
INVALID = "invalid_value"
UNSUPPORTED = "unsupported_parameter"
MISSING = "missing_required_parameter"

BAD_REQUESTS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": None}, "messages", "invalid_type"),
    ({"messages": []}, "messages", INVALID),
    ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]}, "messages[0].role", INVALID),
    ({"messages": [{"role": "function", "content": "a", "name": "f"}]}, "messages[0].role", INVALID),
    ({"messages": [{"content": "a"}]}, "messages[0].role", INVALID),
    ({"messages": [{"role": "user"}]}, "messages[0].content", MISSING),
    ({"messages": [{"role": "user", "content": "a", "images": []}]}, "messages[0].images", "unknown_parameter"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0].type",
        INVALID,
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        "messages[0].content[0].text",
        "invalid_type",
    ),
    (
        {"messages": [{"role": "user", "content": [{**PICTURE, "size": 1}]}]},
        "messages[0].content[0].size",
        "unknown_parameter",
    ),
    ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content", MISSING),
    (
        {"messages": [USER, {"role": "assistant", "content": "a", "tool_calls": [CALL]}]},
        "messages[1].tool_calls",
        UNSUPPORTED,
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": "a", "function_call": {"name": "f"}}]},
        "messages[1].function_call",
        UNSUPPORTED,
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": [PICTURE], "images": [PICTURE]}]},
        "messages[1].images",
        INVALID,
    ),
    (
        {"messages": [USER, {"role": "assistant", "images": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
        "messages[1].images[0].image_url",
        "unsupported_image_url",
    ),
    (
        {"messages": [USER, {"role": "assistant", "images": [{**PICTURE, "text_offset": -1}]}]},
        "messages[1].images[0].text_offset",
        INVALID,
    ),
    (
        {"messages": [{"role": "assistant", "content": "![image 1](data:image/png;base64,AAAA)"}, USER]}
        | {"image_output": "markdown"},
        "messages[0].content",
        "unsupported_image_format",
    ),
    ({"n": 2}, "n", INVALID),
    ({"n": 0}, "n", INVALID),
    ({"tools": [TOOL]}, "tools", UNSUPPORTED),
    ({"tool_choice": "required"}, "tool_choice", INVALID),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", INVALID),
    ({"functions": [{"name": "f"}]}, "functions", UNSUPPORTED),
    ({"function_call": "auto"}, "function_call", UNSUPPORTED),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", UNSUPPORTED),
    ({"prediction": {"type": "content", "content": "a"}}, "prediction", UNSUPPORTED),
    ({"reasoning_effort": "low"}, "reasoning_effort", UNSUPPORTED),
    ({"verbosity": "low"}, "verbosity", UNSUPPORTED),
    ({"web_search_options": {}}, "web_search_options", UNSUPPORTED),
    ({"moderation": {"model": "m"}}, "moderation", UNSUPPORTED),
    ({"modalities": []}, "modalities", INVALID),
    ({"modalities": ["image"]}, "modalities", INVALID),
    ({"modalities": ["text", "audio"]}, "modalities[1]", INVALID),
    ({"modalities": ["text"], "images": {"max": 1}}, "images.max", INVALID),
    ({"images": {"max": 9}}, "images.max", INVALID),
    ({"images": {"quality": "hd"}}, "images.quality", "unknown_parameter"),
    ({"image_output": "inline"}, "image_output", INVALID),
    ({"response_format": {"type": "xml"}}, "response_format.type", INVALID),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", MISSING),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "response_format.json_schema.schema",
        MISSING,
    ),
    ({"response_format": SCHEMA, "modalities": ["text", "image"]}, "response_format", INVALID),
    ({"response_format": SCHEMA, "images": {"max": 1}}, "images.max", INVALID),
    ({"response_format": SCHEMA, "ignore_eos": True}, "ignore_eos", INVALID),
    ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options", INVALID),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "unknown_parameter"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", INVALID),
    ({"max_completion_tokens": 0}, "max_completion_tokens", INVALID),
    ({"top_logprobs": 2}, "top_logprobs", INVALID),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", INVALID),
    ({"logprobs": 5}, "logprobs", "invalid_type"),
    ({"temperature": 2.5}, "temperature", INVALID),
    ({"min_p": 1.5}, "min_p", INVALID),
    ({"repetition_penalty": 0}, "repetition_penalty", INVALID),
    ({"presence_penalty": 2.5}, "presence_penalty", INVALID),
    ({"frequency_penalty": -2.5}, "frequency_penalty", INVALID),
    ({"logit_bias": {"a": 1}}, "logit_bias.a", INVALID),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", INVALID),
    ({"metadata": {"a": "b" * 513}}, "metadata.a", INVALID),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata", INVALID),
    ({"service_tier": "gold"}, "service_tier", INVALID),
    ({"best_of": 2}, "best_of", "unknown_parameter"),
]


@pytest.mark.parametrize(
    ("body", "param", "code"), BAD_REQUESTS, ids=[f"{r[1]}-{i}" for i, r in enumerate(BAD_REQUESTS)]
)
async def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(
    running: Running, body: dict[str, Any], param: str, code: str
) -> None:
    calls = len(running.engine.calls)

    response = await running.client.post(URL, json={"messages": QUESTION, **body})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: ")
    assert len(running.engine.calls) == calls


async def test_a_refusal_says_why(running: Running) -> None:
    response = await running.client.post(URL, json={"messages": QUESTION, "tools": [TOOL]})

    assert response.json()["error"]["message"] == "tools: this model calls no tools"


async def test_another_model_is_not_found(running: Running) -> None:
    response = await running.client.post(URL, json={"messages": QUESTION, "model": "gpt-4o"})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_that_does_not_fit_is_refused_before_the_stream_begins(
    running: Running, stream: bool
) -> None:
    messages = [{"role": "user", "content": "long " * 1000}]
    response = await running.client.post(URL, json={"messages": messages, "stream": stream})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_engine_cannot_sample_is_refused_before_the_stream_begins(stream: bool) -> None:
    engine = ScriptedEngine(refuses=SamplingError("response_format", "the schema is too deep"))
    async with in_memory(engine) as app:
        await app.ready()
        response = await app.client.post(URL, json={"messages": QUESTION, "response_format": SCHEMA, "stream": stream})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format"
