"""Bodies that are right, and cheap: a few tokens, one small picture of two steps. What is broken starts from these."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from load_tests.fuzz.values import data_url, image_bytes
from load_tests.soak.visits import CHAT, IMAGES, INTERLEAVED, RESPONSES

Body = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def some_of(dice: random.Random, options: Mapping[str, Any]) -> Body:
    """About a third of the options."""
    return {name: value for name, value in options.items() if dice.random() < 0.3}


def drawing(dice: random.Random) -> Body:
    """How pictures are drawn, on every surface."""
    options = {
        "guidance_scale": dice.choice((1.0, 3.0)),
        "negative_prompt": "blurry",
        "scheduler": dice.choice(("ddpm", "ddim", "dpmpp_2m")),
        "seed": dice.randrange(100),
    }
    return {"steps": dice.randint(1, 2), **some_of(dice, options)}


def images(dice: random.Random) -> Body:
    """``images`` of an answer."""
    options = {
        "size": dice.choice(("64x64", "32x64", "96x96")),
        "format": dice.choice(("png", "webp", "jpeg")),
        "delivery": dice.choice(("inline", "url")),
        "on_overload": dice.choice(("wait", "skip", "fail")),
        "feedback": dice.choice(("image", "none")),
    }
    return {"max": dice.randint(0, 1), **drawing(dice), **some_of(dice, options)}


def sampling(dice: random.Random) -> Body:
    """How text is sampled, on every surface."""
    options = {
        "temperature": dice.choice((0.0, 0.7)),
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"5": 1.0, "300": -100},
        "seed": dice.randrange(100),
        "stop": dice.choice(("star", ["a", "circle"])),
        "ignore_eos": True,
        "model": None,
    }
    return some_of(dice, options)


def picture(dice: random.Random) -> str:
    """A data URL."""
    return data_url(image_bytes(dice))


def chat_content(dice: random.Random) -> Any:
    """What a user says in chat, and in an interleaved request."""
    if dice.random() < 0.5:
        return "Draw a red circle."
    shown = {"type": "image_url", "image_url": {"url": picture(dice), "detail": "low"}}
    return [{"type": "text", "text": "What is it?"}, shown]


def interleaved(dice: random.Random) -> Body:
    """For ``/v1/interleaved``."""
    said: Body = {"input": chat_content(dice)}
    if dice.random() < 0.4:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": chat_content(dice)}]
        said = {"messages": turns}
    drawn = images(dice) | some_of(dice, {"previews": 1})
    return {**said, "max_tokens": dice.randint(1, 8), "images": drawn, **_how(dice), **sampling(dice)}


def chat(dice: random.Random) -> Body:
    """For ``/v1/chat/completions``."""
    earlier = {
        "role": "assistant",
        "content": "Here.",
        "images": [{"type": "image_url", "image_url": {"url": picture(dice)}, "text_offset": 2, "part": 1}],
    }
    turns = [{"role": "user", "content": "Draw."}, earlier] if dice.random() < 0.4 else []
    options = {
        "image_output": dice.choice(("images", "content", "markdown")),
        "modalities": dice.choice((["text"], ["text", "image"])),
        "metadata": {"a": "b"},
        "user": "me",
        "n": 1,
        "service_tier": "auto",
        "response_format": {"type": "text"},
    }
    body = {
        "messages": [*turns, {"role": "user", "content": chat_content(dice)}],
        "max_tokens": dice.randint(1, 8),
        "images": images(dice),
        **_how(dice),
        **sampling(dice),
        **some_of(dice, options),
    }
    if body.get("stream") and dice.random() < 0.5:
        body["stream_options"] = {"include_usage": True, "include_image_events": True, "continuous_usage_stats": True}
    if dice.random() < 0.2:
        body |= {"logprobs": True, "top_logprobs": 3}
    if dice.random() < 0.1:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    return body


def responses(dice: random.Random) -> Body:
    """For ``/v1/responses``."""
    said: Any = "Draw a red circle."
    if dice.random() < 0.6:
        parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": picture(dice)}]
        earlier = [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Here."}]},
            {"type": "image_generation_call", "id": "ig_1", "result": picture(dice).partition(",")[2]},
        ]
        turns = [{"role": "user", "content": "Draw."}, *earlier] if dice.random() < 0.5 else []
        said = [*turns, {"type": "message", "role": "user", "content": parts}]
    options = {
        "instructions": "Be brief.",
        "tools": [{"type": "image_generation", "size": "64x64", "output_format": "png"}],
        "tool_choice": dice.choice(("none", "auto")),
        "max_tool_calls": 1,
        "include": ["message.output_text.logprobs"],
        "metadata": {"a": "b"},
        "truncation": "disabled",
        "text": {"format": {"type": "text"}},
    }
    how = {**_how(dice), **({"background": True, "store": True} if dice.random() < 0.2 else {})}
    drawn, limit = images(dice), dice.randint(1, 8)
    return {
        "input": said,
        "max_output_tokens": limit,
        "images": drawn,
        **how,
        **sampling(dice),
        **some_of(dice, options),
    }


def generations(dice: random.Random) -> Body:
    """For ``/v1/images/generations``."""
    streamed = {"stream": True, "partial_images": dice.randint(0, 1)} if dice.random() < 0.5 else {}
    options = {
        "n": dice.randint(1, 2),
        "size": dice.choice(("auto", "64x64")),
        "response_format": dice.choice(("b64_json", "url")),
        "output_format": dice.choice(("png", "webp", "jpeg")),
        "quality": "auto",
        "user": "me",
    }
    return {"prompt": "a red circle", **drawing(dice), **streamed, **some_of(dice, options)}


def _how(dice: random.Random) -> Body:
    """Whether it is streamed, and stored."""
    return some_of(dice, {"stream": True, "store": True})


SAMPLES: Mapping[str, Callable[[random.Random], Body]] = {
    INTERLEAVED: interleaved,
    CHAT: chat,
    RESPONSES: responses,
    IMAGES: generations,
}
"""By path."""
