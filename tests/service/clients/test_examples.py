"""The examples of the README, each run as it stands, but for the address."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImages

from tests.service.clients.conftest import native_answer, native_pictures
from tests.service.clients.probes.answers import is_picture, joined
from tests.service.clients.programs import ROOT, copy_programs, run_program
from tests.service.conftest import Service

EXAMPLES = ROOT / "docs" / "clients"
LOCAL = "http://localhost:8000"
SHOWN = re.compile(r"\[(picture-\d\.png)]|!\[[^]]*]\(([^)]*)\)")
"""How an example shows a picture: as the file into which it wrote it, or as Markdown."""

CHATS = ["openai_chat.py", "openai_responses.mjs", "langchain_chat.py", "litellm_chat.py", "ai_sdk_chat.mjs"]
DRAWINGS = ["openai_images.py"]


def test_the_readme_shows_every_example() -> None:
    readme = (ROOT / "README.md").read_text()
    examples = {path.name: path.read_text() for path in EXAMPLES.iterdir()}
    assert examples.keys() == {*CHATS, *DRAWINGS}
    assert [name for name, text in examples.items() if text not in readme] == []


@pytest.mark.vllm
@pytest.mark.parametrize("example", CHATS)
async def test_an_example_shows_the_document(
    example: str, service: Service, environment_before_start: dict[str, str], tmp_path: Path
) -> None:
    shown = await run_example(example, service, environment_before_start, tmp_path)
    native = await native_answer(service, {"input": "Draw two pictures: a red circle, then a blue star.", "seed": 7})
    assert sum(map(is_picture, native.parts)) > 1
    assert shown == native.parts


@pytest.mark.vllm
@pytest.mark.parametrize("example", DRAWINGS)
async def test_an_example_draws_the_pictures(
    example: str, service: Service, environment_before_start: dict[str, str], tmp_path: Path
) -> None:
    shown = await run_example(example, service, environment_before_start, tmp_path)
    native = await native_pictures(service, {"prompt": "a big red circle", "n": 2, "seed": 7})
    # Whether the second one is there by the first step of the first is chance, and another batch rounds otherwise.
    for mine, its in zip(shown, native.parts, strict=True):
        assert np.abs(pixels(mine) - pixels(its)).max() <= 2


def pixels(url: str) -> np.ndarray:
    """A picture, ``[height, width, 3]``."""
    data = base64.b64decode(url.partition(",")[2])
    return np.asarray(PILImages.open(io.BytesIO(data)), dtype=int)


async def run_example(name: str, service: Service, variables: dict[str, str], folder: Path) -> list[str]:
    """The texts and pictures that an example shows, in order."""
    text = (EXAMPLES / name).read_text()
    assert LOCAL in text
    copy_programs(EXAMPLES, folder)
    (folder / name).write_text(text.replace(LOCAL, str(service.client.base_url).rstrip("/")))
    printed = await run_program(folder / name, variables=variables)
    parts, end = [], 0
    for picture in SHOWN.finditer(printed):
        file, link = picture.groups()
        data = (folder / file).read_bytes() if file else (await service.client.get(link)).content
        parts += [printed[end : picture.start()], f"data:image/png;base64,{base64.b64encode(data).decode()}"]
        end = picture.end()
    return joined([*parts, printed[end:]])
