"""Checks of prompts and pictures: what is refused, and that nothing passes which could not be judged."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from server.guard.checks import (
    CheckedImage,
    CheckedPrompt,
    CheckFailedError,
    Checks,
    ImageCheck,
    PromptRefusedError,
    load_check,
    open_checks,
)
from server.guard.flat_pictures import FlatPictures
from server.llm.conversation import Message, TextPart
from server.settings import ChecksSettings
from tests.guard.example_checks import Breaking, ForbiddenWord, Hanging, RedPictures
from tests.scripted.pool import solid

HERE = "tests.guard.example_checks"
RED = CheckedImage(solid(8, 8, (200, 30, 30)), is_preview=False)
GREY = CheckedImage(solid(8, 8, (90, 90, 90)), is_preview=False)


def says(text: str) -> CheckedPrompt:
    return CheckedPrompt((Message("user", (TextPart(text),)),), None)


def counted(check: str, reason: str) -> float:
    return REGISTRY.get_sample_value("dreamserve_check_refusals_total", {"check": check, "reason": reason}) or 0.0


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    check = Hanging()
    yield check
    check.let_go()


async def test_without_checks_everything_passes() -> None:
    checks = Checks()
    await checks.require_allowed(says("anything"))
    assert await checks.refusal_of(RED) is None


async def test_what_the_check_of_prompts_refuses_is_refused() -> None:
    checks = Checks(prompt=ForbiddenWord())
    await checks.require_allowed(says("allowed"))
    with pytest.raises(PromptRefusedError):
        await checks.require_allowed(says("forbidden"))
    with pytest.raises(PromptRefusedError):
        await checks.require_allowed(CheckedPrompt(says("allowed").messages, negative_prompt="forbidden"))


async def test_what_the_check_of_pictures_refuses_is_refused() -> None:
    checks = Checks(image=RedPictures())
    assert await checks.refusal_of(GREY) is None
    assert await checks.refusal_of(RED) == "content_filtered"


async def test_what_a_broken_check_cannot_judge_is_refused_under_another_code() -> None:
    checks = Checks(prompt=Breaking(), image=Breaking())
    with pytest.raises(CheckFailedError):
        await checks.require_allowed(says("anything"))
    assert await checks.refusal_of(GREY) == "check_failed"


async def test_what_a_check_does_not_judge_in_time_is_refused(hanging: Hanging) -> None:
    checks = Checks(prompt=hanging, image=hanging, timeout_s=0.05, threads=2)
    with pytest.raises(CheckFailedError):
        await checks.require_allowed(says("anything"))
    assert await checks.refusal_of(GREY) == "check_failed"


async def test_when_checks_hang_on_all_threads_everything_is_refused_in_time(hanging: Hanging) -> None:
    checks = Checks(image=hanging, timeout_s=0.05, threads=1)
    refused = await asyncio.gather(*(checks.refusal_of(GREY) for _ in range(5)))
    assert refused == ["check_failed"] * 5
    # Other work has threads of its own.
    assert await asyncio.to_thread(lambda: "free") == "free"


@pytest.mark.parametrize("answer", [False, True, 0, "", "a reason"])
async def test_only_none_lets_a_picture_pass(answer: Any) -> None:
    checks = Checks(image=lambda image: answer)
    assert await checks.refusal_of(GREY) == "content_filtered"


async def test_checks_run_on_threads_and_several_at_one_time() -> None:
    together = threading.Barrier(2)

    def meet(image: CheckedImage) -> str | None:
        together.wait(60)
        return None

    checks = Checks(image=meet, timeout_s=60, threads=2)
    assert set(await asyncio.gather(checks.refusal_of(GREY), checks.refusal_of(GREY))) == {None}


async def test_refusals_are_counted_by_check_and_reason(hanging: Hanging) -> None:
    preview = CheckedImage(RED.pixels, is_preview=True)
    cases: list[tuple[ImageCheck, CheckedImage, str, str]] = [
        (RedPictures(), RED, "image", "refused"),
        (RedPictures(), preview, "preview", "refused"),
        (Breaking(), RED, "image", "failed"),
        (hanging, preview, "preview", "timeout"),
    ]
    for check, image, name, reason in cases:
        before = counted(name, reason)
        await Checks(image=check, timeout_s=0.05 if check is hanging else 60).refusal_of(image)
        assert counted(name, reason) == before + 1


async def test_the_reason_is_logged_and_the_prompt_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(PromptRefusedError) as refused:
        await Checks(prompt=ForbiddenWord()).require_allowed(says("forbidden fruit"))
    assert "the prompt check refused: a word" in caplog.messages
    assert not any("fruit" in message for message in [*caplog.messages, str(refused.value)])


async def test_the_settings_name_the_checks() -> None:
    settings = ChecksSettings(prompt=f"{HERE}:ForbiddenWord", image=f"{HERE}:RedPictures")
    async with open_checks(settings) as checks:
        assert await checks.refusal_of(RED) == "content_filtered"
        with pytest.raises(PromptRefusedError):
            await checks.require_allowed(says("forbidden"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_package:Check", "No module named"),
        (f"{HERE}:NoSuchCheck", "has no attribute"),
        (f"{HERE}:unloadable", "weights.onnx"),
        (f"{HERE}:NOT_CALLABLE", "makes no check"),
    ],
)
def test_a_check_that_cannot_be_loaded_is_an_error_that_names_the_setting(path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as wrong:
        load_check("checks.image", path)
    assert "checks.image" in str(wrong.value)


@pytest.mark.parametrize("path", ["package.module", "package/module:check", ":check", "module:", "a.b:c.d", "a:b()"])
def test_what_names_no_factory_is_an_error_in_the_settings(path: str) -> None:
    with pytest.raises(ValueError, match="image"):
        ChecksSettings(image=path)


def test_the_example_refuses_pictures_of_one_colour_and_no_others() -> None:
    check = FlatPictures()
    noisy = np.clip(solid(8, 8, (90, 90, 90)).astype(int) + np.arange(64).reshape(8, 8, 1) % 4, 0, 255)
    striped = solid(8, 8, (90, 90, 90)).copy()
    striped[::2] = (90, 90, 120)

    assert check(GREY) is not None
    assert check(CheckedImage(noisy.astype(np.uint8), is_preview=True)) is not None
    assert check(CheckedImage(striped, is_preview=False)) is None
