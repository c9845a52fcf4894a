"""Every client has the whole answer: its text, its pictures, their order, and what it cost."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio

from tests.service.clients.conftest import Answer, native_answer, native_pictures
from tests.service.clients.probes.answers import Question, is_picture, user
from tests.service.clients.programs import copy_programs, run_program
from tests.service.conftest import Service

pytestmark = pytest.mark.vllm

PROBES = Path(__file__).parent / "probes"

OPENAI = {
    "chat": "document",
    "chat streamed": "document",
    "chat goes on": "continuation",
    "responses": "document",
    "responses streamed": "document",
    "responses go on": "continuation",
    "images": "picture",
    "images streamed": "picture",
}
CLIENTS = {
    "openai_python.py": OPENAI,
    "openai_node.mjs": OPENAI,
    "langchain_python.py": {
        "content": "document",
        "content streamed": "document",
        "goes on": "continuation",
        "goes on after a stream": "continuation",
        "markdown": "document",
        "markdown streamed": "document",
    },
    "litellm_python.py": {
        "chat": "document",
        "chat streamed": "document",
        "chat goes on": "continuation",
        "images": "picture",
    },
    "ai_sdk_node.mjs": {
        "markdown": "document",
        "markdown streamed": "document",
        "goes on": "continuation",
        "links": "document",
        "image": "picture",
    },
}
CASES = [(probe, case, expected) for probe, cases in CLIENTS.items() for case, expected in cases.items()]


@pytest_asyncio.fixture(scope="module")
async def native(service: Service, question: Question) -> dict[str, Answer]:
    """What there is to have."""
    greedy = {"temperature": 0, "seed": question.seed, "images": question.images}
    document = await native_answer(service, {"messages": question.messages, **greedy})
    assert [is_picture(part) for part in document.parts][:4] == [False, True, False, True]

    said = [
        {"type": "image_url", "image_url": {"url": part}} if is_picture(part) else {"type": "text", "text": part}
        for part in document.parts
    ]
    messages = [*question.messages, {"role": "assistant", "content": said}, user(question.then)]
    continuation = await native_answer(service, {"messages": messages, **greedy})
    assert any(is_picture(part) for part in continuation.parts)

    drawing = {"prompt": question.caption, "seed": question.seed, "steps": question.images["steps"]}
    return {
        "document": document,
        "continuation": continuation,
        "picture": await native_pictures(service, drawing),
    }


@pytest_asyncio.fixture(scope="module")
async def answers(
    request: pytest.FixtureRequest,
    question: Question,
    environment_before_start: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Answer]:
    """What the client of a probe has, by the ways in which it asks."""
    folder = tmp_path_factory.mktemp("probes")
    copy_programs(PROBES, folder)
    printed = await run_program(
        folder / request.param, json.dumps(asdict(question)), variables=environment_before_start
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["case"] for line in lines] == list(CLIENTS[request.param])
    return {line["case"]: Answer(line["parts"], tuple(line["usage"])) for line in lines}


@pytest.mark.parametrize(("answers", "case", "expected"), CASES, indirect=["answers"], ids=map(" ".join, CASES))
async def test_a_client_has_the_whole_answer(
    native: dict[str, Answer], answers: dict[str, Answer], case: str, expected: str
) -> None:
    assert answers[case] == native[expected]
