"""Whatever is wrong with a request is a 4xx in OpenAI's shape that names the field, and nothing is started."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.api.serving import Running, in_memory, scripted_engine


def picture(width: int, height: int) -> str:
    """A small file, whatever its size in pixels, as a data URL."""
    encoded = io.BytesIO()
    Image.new("1", (width, height)).save(encoded, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"


BAD_REQUESTS: list[tuple[str, dict[str, Any] | list[Any] | str, str | None, str]] = [
    ("no input", {}, None, "invalid_value"),
    ("both inputs", {"input": "a", "messages": [{"role": "user", "content": "a"}]}, None, "invalid_value"),
    ("not an object", [1], None, "invalid_type"),
    ("unknown field", {"input": "a", "prompt": "b"}, "prompt", "unknown_parameter"),
    ("unknown image field", {"input": "a", "images": {"quality": 1}}, "images.quality", "unknown_parameter"),
    ("input of no kind", {"input": 5}, "input", "invalid_type"),
    ("no parts", {"input": []}, "input", "invalid_value"),
    ("part without type", {"input": [{"text": "a"}]}, "input[0].type", "invalid_value"),
    ("part of no kind", {"input": [{"type": "video"}]}, "input[0].type", "invalid_value"),
    ("part without text", {"input": [{"type": "text"}]}, "input[0].text", "missing_required_parameter"),
    ("top_k past 32 bits", {"input": "a", "top_k": 2**31}, "top_k", "invalid_value"),
    ("max_tokens past 32 bits", {"input": "a", "max_tokens": 2**31}, "max_tokens", "invalid_value"),
    ("no messages", {"messages": []}, "messages", "invalid_value"),
    ("message without content", {"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ("role of no kind", {"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "invalid_value"),
    (
        "image url of no kind",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
        "messages[0].content[1].image_url",
        "missing_required_parameter",
    ),
    (
        "remote image",
        {"input": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
        "input[0].image_url",
        "unsupported_image_url",
    ),
    (
        "image that is none",
        {"input": [{"type": "text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
        "input[1].image_url",
        "unsupported_image_format",
    ),
    (
        "image too large",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": picture(8000, 8000)}],
                }
            ]
        },
        "messages[0].content[0].image_url",
        "image_too_large",
    ),
    ("stream of no kind", {"input": "a", "stream": "yes"}, "stream", "invalid_type"),
    ("max_tokens zero", {"input": "a", "max_tokens": 0}, "max_tokens", "invalid_value"),
    ("max_tokens in quotes", {"input": "a", "max_tokens": "5"}, "max_tokens", "invalid_type"),
    ("temperature", {"input": "a", "temperature": 2.5}, "temperature", "invalid_value"),
    ("top_p", {"input": "a", "top_p": 0}, "top_p", "invalid_value"),
    ("top_k", {"input": "a", "top_k": -2}, "top_k", "invalid_value"),
    ("min_p", {"input": "a", "min_p": 1.1}, "min_p", "invalid_value"),
    ("repetition_penalty", {"input": "a", "repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ("presence_penalty", {"input": "a", "presence_penalty": 2.1}, "presence_penalty", "invalid_value"),
    ("frequency_penalty", {"input": "a", "frequency_penalty": -2.1}, "frequency_penalty", "invalid_value"),
    ("seed", {"input": "a", "seed": -1}, "seed", "invalid_value"),
    ("seed of no kind", {"input": "a", "seed": True}, "seed", "invalid_type"),
    ("empty stop", {"input": "a", "stop": ["b", ""]}, "stop[1]", "invalid_value"),
    ("images.max", {"input": "a", "images": {"max": 65}}, "images.max", "invalid_value"),
    ("images.max over the limit", {"input": "a", "images": {"max": 9}}, "images.max", "invalid_value"),
    ("images.size of no form", {"input": "a", "images": {"size": "big"}}, "images.size", "invalid_value"),
    ("images.size between latents", {"input": "a", "images": {"size": "64x65"}}, "images.size", "invalid_value"),
    ("images.size over the limit", {"input": "a", "images": {"size": "4096x4096"}}, "images.size", "invalid_value"),
    ("images.steps", {"input": "a", "images": {"steps": 0}}, "images.steps", "invalid_value"),
    ("images.steps over the limit", {"input": "a", "images": {"steps": 300}}, "images.steps", "invalid_value"),
    (
        "images.guidance_scale",
        {"input": "a", "images": {"guidance_scale": -1}},
        "images.guidance_scale",
        "invalid_value",
    ),
    ("images.scheduler", {"input": "a", "images": {"scheduler": "euler"}}, "images.scheduler", "invalid_value"),
    ("images.seed", {"input": "a", "images": {"seed": 2**63}}, "images.seed", "invalid_value"),
    ("images.format", {"input": "a", "images": {"format": "gif"}}, "images.format", "invalid_value"),
    ("images.previews", {"input": "a", "images": {"previews": 4}}, "images.previews", "invalid_value"),
    ("images.feedback", {"input": "a", "images": {"feedback": "text"}}, "images.feedback", "invalid_value"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "param", "code"), [row[1:] for row in BAD_REQUESTS], ids=[row[0] for row in BAD_REQUESTS]
)
async def test_a_bad_request_is_refused_by_the_name_of_its_field(
    running: Running, body: Any, param: str | None, code: str, stream: bool
) -> None:
    calls = len(running.engine.calls)
    if isinstance(body, dict) and "stream" not in body:
        body = {**body, "stream": stream}

    response = await running.client.post("/v1/interleaved", json=body)

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: " if param else "")
    assert len(running.engine.calls) == calls


async def test_another_model_is_not_found(running: Running) -> None:
    response = await running.client.post("/v1/interleaved", json={"input": "a", "model": "gpt"})

    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "there is no model 'gpt'; 'scripted' is served",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    "body", [b"{", b"nope", b'{"input": "\\ud800"}', b'{"temperature": NaN}', b"[" * 100_000, b"\xff"]
)
async def test_what_is_no_json_is_refused(running: Running, body: bytes) -> None:
    response = await running.client.post("/v1/interleaved", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"


async def test_a_missing_body_is_refused(running: Running) -> None:
    response = await running.client.post("/v1/interleaved")

    assert response.status_code == 400
    assert response.json()["error"]["message"] == "the body is missing"


async def test_a_body_that_curl_calls_a_form_is_read_as_json(running: Running) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}

    response = await running.client.post("/v1/interleaved", content=b'{"input": "a"}', headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "long " * 1000}, "input"),
        ({"messages": [{"role": "user", "content": "long " * 1000}]}, "messages"),
        ({"input": "a", "images": {"negative_prompt": "x" * 3000}}, "images.negative_prompt"),
    ],
)
async def test_a_prompt_that_does_not_fit_is_refused_before_the_stream_begins(
    running: Running, body: dict[str, Any], param: str, stream: bool
) -> None:
    response = await running.client.post("/v1/interleaved", json={**body, "stream": stream})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["code"] == "invalid_prompt"


@pytest.mark.parametrize(
    ("limits", "body", "param", "code"),
    [
        ({"input_parts": 1}, {"input": [{"type": "text", "text": "a"}] * 2}, "input", "too_many_parts"),
        (
            {"input_images": 0},
            {"input": [{"type": "input_image", "image_url": "data:,"}]},
            "input[0].image_url",
            "too_many_images",
        ),
        (
            {"input_pixels": 1500},
            {"input": [{"type": "input_image", "image_url": picture(30, 30)}] * 2},
            "input[1].image_url",
            "image_too_large",
        ),
        ({"image_sizes": ["64x64"]}, {"input": "a", "images": {"size": "32x32"}}, "images.size", "invalid_value"),
        ({"images": 0}, {"input": "a", "images": {"max": 1}}, "images.max", "invalid_value"),
    ],
)
async def test_the_limits_of_the_settings_hold(limits: Any, body: Any, param: str, code: str) -> None:
    async with in_memory(scripted_engine(), limits=limits) as app:
        await app.ready()

        response = await app.client.post("/v1/interleaved", json=body)

        assert response.status_code == 400
        assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


async def test_pictures_that_are_too_large_together_are_told_so() -> None:
    body = {"input": [{"type": "input_image", "image_url": picture(30, 30)}] * 2}
    async with in_memory(scripted_engine(), limits={"input_pixels": 1500}) as app:
        await app.ready()
        message = (await app.client.post("/v1/interleaved", json=body)).json()["error"]["message"]

    assert message.endswith("the request's pictures have with this one 1800 pixels, more than 1500")
