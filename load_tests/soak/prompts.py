"""What callers of the soak ask for: small requests of all kinds, drawn at random."""

import base64
import io
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black")
SHAPES = ("circle", "square", "star", "triangle")
FORMATS = ("png", "webp", "jpeg")
SIDE = 64

BAD_REQUESTS: Sequence[tuple[str, Any]] = (
    ("/v1/interleaved", {}),
    ("/v1/interleaved", {"input": "a", "messages": [{"role": "user", "content": "a"}]}),
    ("/v1/interleaved", {"input": "a", "images": {"steps": 0}}),
    ("/v1/interleaved", {"input": "long " * 5000}),
    ("/v1/interleaved", {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "a"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}),
    ("/v1/responses", {"input": "a", "previous_response_id": "resp_of_nobody"}),
    ("/v1/responses", {"input": "a", "background": True, "store": False}),
    ("/v1/images/generations", {"prompt": ""}),
    ("/v1/images/generations", {"prompt": "a", "size": "63x64"}),
    ("/v1/nothing", {"input": "a"}),
)


def prompt(dice: random.Random) -> str:
    """Text of a caller."""
    first, second = (f"{dice.choice(COLOURS)} {dice.choice(SHAPES)}" for _ in range(2))
    two = f"Draw two pictures: a {first}, then a {second}."
    return dice.choice((f"Draw a {first}.", two, f"Tell me a story about a {first}."))


def picture(dice: random.Random) -> str:
    """A picture of a caller, as a data URL."""
    drawn = Image.new("RGB", (SIDE, SIDE), dice.choice(COLOURS))
    left, top = dice.randrange(SIDE // 2), dice.randrange(SIDE // 2)
    ImageDraw.Draw(drawn).ellipse((left, top, left + SIDE // 2, top + SIDE // 2), fill=dice.choice(COLOURS))
    format = dice.choice(FORMATS)
    encoded = io.BytesIO()
    drawn.save(encoded, format=format)
    return f"data:image/{format};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def drawing(dice: random.Random) -> dict[str, Any]:
    """How the pictures of an answer are to be drawn: ``images``, but for previews."""
    options: dict[str, Any] = {"max": dice.randint(0, 2), "steps": dice.choice((2, 4, 8))}
    if dice.random() < 0.3:
        options["delivery"] = "url"
    if dice.random() < 0.3:
        options["format"] = dice.choice(FORMATS)
    if dice.random() < 0.2:
        options["feedback"] = dice.choice(("image", "none"))
    if dice.random() < 0.2:
        options["guidance_scale"] = dice.choice((1.0, 3.5))
    if dice.random() < 0.1:
        options["negative_prompt"] = dice.choice(("blurry", "dark"))
    return options


def sampling(dice: random.Random) -> dict[str, Any]:
    """How text is to be sampled, on every surface."""
    options: dict[str, Any] = {"seed": dice.randrange(2**31)}
    if dice.random() < 0.3:
        options["temperature"] = dice.choice((0.0, 0.7, 1.5))
    if dice.random() < 0.1:
        options["frequency_penalty"] = 0.5
    if dice.random() < 0.1:
        options["stop"] = [dice.choice(SHAPES)]
    return options


def interleaved(dice: random.Random, **more: Any) -> dict[str, Any]:
    """A body for ``/v1/interleaved``."""
    said: Any = prompt(dice)
    if dice.random() < 0.25:
        shown = {"type": "image_url", "image_url": {"url": picture(dice)}}
        said = [{"type": "text", "text": "What is in this picture? "}, shown]
    return {"input": said, "max_tokens": dice.randint(16, 96), "images": drawing(dice), **sampling(dice), **more}


def chat(dice: random.Random, **more: Any) -> dict[str, Any]:
    """A body for ``/v1/chat/completions``."""
    content: Any = prompt(dice)
    if dice.random() < 0.25:
        content = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": picture(dice)}},
        ]
    messages = [{"role": "user", "content": content}]
    if dice.random() < 0.3:
        turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
        messages = [*turns, *messages]
    body = {"messages": messages, "max_tokens": dice.randint(16, 96), "images": drawing(dice), **sampling(dice), **more}
    if dice.random() < 0.3:
        body["image_output"] = dice.choice(("content", "markdown"))
    if dice.random() < 0.2:
        body |= {"logprobs": True, "top_logprobs": 2}
    return body


def response(dice: random.Random, **more: Any) -> dict[str, Any]:
    """A body for ``/v1/responses``."""
    said: Any = prompt(dice)
    if dice.random() < 0.25:
        parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": picture(dice)}]
        said = [{"role": "user", "content": parts}]
    limit = {"max_output_tokens": dice.randint(16, 96)}
    return {"input": said, **limit, "images": drawing(dice), **sampling(dice), **more}


def pictures(dice: random.Random, **more: Any) -> dict[str, Any]:
    """A body for ``/v1/images/generations``."""
    body = {"prompt": f"a {dice.choice(COLOURS)} {dice.choice(SHAPES)}", "n": dice.randint(1, 2), "steps": 4}
    return {**body, "seed": dice.randrange(2**31), "response_format": dice.choice(("url", "b64_json")), **more}
