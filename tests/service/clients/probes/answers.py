"""What a probe is asked, and how it tells what its client has of the answers: a line of JSON for each.

Of the standard library alone, because every probe runs in an environment of its own.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PICTURE = re.compile(r"!\[[^]]*]\(([^)]*)\)")


@dataclass(frozen=True)
class Question:
    """What all clients ask.

    Attributes:
        base_url: of the OpenAI-compatible surfaces, ``…/v1``.
        model: its name.
        prompt: what the model is asked first.
        then: what it is asked after its answer.
        seed: of text and pictures.
        images: picture parameters.
        caption: what a picture without a text shows.
    """

    base_url: str
    model: str
    prompt: str
    then: str
    seed: int
    images: dict[str, Any]
    caption: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The first turn."""
        return [user(self.prompt)]


def read_question() -> Question:
    """The question on the command line."""
    return Question(**json.loads(sys.argv[1]))


def user(text: str) -> dict[str, Any]:
    """What a user says."""
    return {"role": "user", "content": text}


def tell(case: str, parts: Iterable[str], usage: tuple[int, int] | None) -> None:
    """Say what the client has.

    Args:
        case: the way in which it asked.
        parts: texts, and pictures as data URLs, in the order that the client shows.
        usage: tokens in and out.
    """
    print(json.dumps({"case": case, "parts": joined(parts), "usage": usage}), flush=True)


def joined(parts: Iterable[str]) -> list[str]:
    """Parts with texts that follow each other as one."""
    whole: list[str] = []
    for part in filter(None, parts):
        if whole and not is_picture(part) and not is_picture(whole[-1]):
            whole[-1] += part
        else:
            whole.append(part)
    return whole


def is_picture(part: str) -> bool:
    """Whether a part is one."""
    return part.startswith("data:image/")


def placed(text: str, images: Iterable[Mapping[str, Any]]) -> list[str]:
    """Parts of a message with its pictures beside the text."""
    parts, begin = [], 0
    for image in images:
        parts += [text[begin : image["text_offset"]], image["image_url"]["url"]]
        begin = image["text_offset"]
    return [*parts, text[begin:]]


def listed(content: Iterable[Mapping[str, Any]]) -> list[str]:
    """Parts of a message with its pictures in its content."""
    return [part["text"] if part["type"] == "text" else part["image_url"]["url"] for part in content]


def written(markdown: str) -> list[str]:
    """Parts of a message with its pictures in its text."""
    return PICTURE.split(markdown)


def items(output: Iterable[Mapping[str, Any]]) -> list[str]:
    """Parts of a response, from its output items."""
    return [
        f"data:image/{item['output_format']};base64,{item['result']}"
        if item["type"] == "image_generation_call"
        else "".join(part["text"] for part in item["content"])
        for item in output
    ]
