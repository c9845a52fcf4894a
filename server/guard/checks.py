"""Checks of content: of prompts before anything is started, of pictures and previews before anybody has them.

What they look for is the operator's to say, who names them in the settings. A check is whatever can be called with a
:class:`CheckedPrompt` or a :class:`CheckedImage`, and returns None to let it pass or the reason to refuse it. The
reason goes to the log; callers are told only that something was refused. Checks run on threads, several at one time.

It fails closed: what a check cannot judge, because it breaks or takes too long, is refused, under a code of its own. A
thread cannot be stopped: a check that hangs keeps its thread, and when all are taken everything is refused.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Literal, Protocol, Self, cast

import numpy as np

from server.interleave.document import DocumentRequest
from server.interleave.text_to_image import TextToImageRequest
from server.llm.conversation import Message, TextPart
from server.observe.metrics import CHECK_DURATION, CHECK_REFUSALS
from server.settings import ChecksSettings

CheckName = Literal["prompt", "image", "preview"]
RefusalCode = Literal["content_filtered", "check_failed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedPrompt:
    """All that a request says.

    Attributes:
        messages: the conversation, with its pictures; a description alone is one message of the user's.
        negative_prompt: what the pictures should keep away from, if anything.
    """

    messages: tuple[Message, ...] = field(repr=False)
    negative_prompt: str | None = field(repr=False)

    @classmethod
    def of(cls, request: DocumentRequest | TextToImageRequest) -> Self:
        """What a request for a document says."""
        match request:
            case DocumentRequest(messages=messages):
                return cls(messages, request.images.negative_prompt)
            case TextToImageRequest(description=description):
                return cls((Message("user", (TextPart(description),)),), request.images.negative_prompt)


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """A picture that was drawn, or an early view of it.

    Attributes:
        pixels: uint8 ``[height, width, 3]``, RGB, read-only.
        is_preview: whether it is an early view, which may be smaller than the picture.
    """

    pixels: np.ndarray = field(repr=False)
    is_preview: bool


class PromptCheck(Protocol):
    """Judges prompts. Called on any thread, on several at one time."""

    def __call__(self, prompt: CheckedPrompt, /) -> str | None:
        """Why the prompt is refused, without quoting it; None lets it pass."""


class ImageCheck(Protocol):
    """Judges pictures. Called on any thread, on several at one time."""

    def __call__(self, image: CheckedImage, /) -> str | None:
        """Why the picture is refused; None lets it pass."""


class PromptRefusedError(Exception):
    """A check refused the prompt: the caller's to mend."""

    def __init__(self) -> None:
        super().__init__("the request was refused by the content check of this server")


class CheckFailedError(Exception):
    """A check could not judge the prompt."""

    def __init__(self) -> None:
        super().__init__("the content check of this server does not work at the moment")


class Checks:
    """Runs the checks of a server.

    Args:
        prompt: judges prompts; None lets all pass.
        image: judges pictures and previews; None lets all pass.
        timeout_s: for one check, its wait for a thread included.
        threads: checks that run at one time.
    """

    def __init__(
        self,
        prompt: PromptCheck | None = None,
        image: ImageCheck | None = None,
        timeout_s: float = 10.0,
        threads: int = 2,
    ) -> None:
        self._prompt = prompt
        self._image = image
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="checks")

    async def require_allowed(self, prompt: CheckedPrompt) -> None:
        """Return if the prompt may be answered.

        Raises:
            PromptRefusedError: it may not.
            CheckFailedError: that cannot be known.
        """
        if self._prompt is None:
            return
        check = self._prompt
        match await self._refusal("prompt", lambda: check(prompt)):
            case "content_filtered":
                raise PromptRefusedError
            case "check_failed":
                raise CheckFailedError

    async def refusal_of(self, image: CheckedImage) -> RefusalCode | None:
        """Why nobody may have a picture, as a code; None if everybody may."""
        if self._image is None:
            return None
        check = self._image
        return await self._refusal("preview" if image.is_preview else "image", lambda: check(image))

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False)

    async def _refusal(self, name: CheckName, check: Callable[[], str | None]) -> RefusalCode | None:
        begin = perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                reason = await asyncio.get_running_loop().run_in_executor(self._threads, check)
        except TimeoutError:
            logger.error("the %s check took more than %g s", name, self._timeout_s)
            CHECK_REFUSALS.labels(name, "timeout").inc()
            return "check_failed"
        except Exception:
            logger.exception("the %s check failed", name)
            CHECK_REFUSALS.labels(name, "failed").inc()
            return "check_failed"
        finally:
            CHECK_DURATION.labels(name).observe(perf_counter() - begin)
        if reason is None:
            return None
        logger.info("the %s check refused: %s", name, reason)
        CHECK_REFUSALS.labels(name, "refused").inc()
        return "content_filtered"


@asynccontextmanager
async def open_checks(settings: ChecksSettings) -> AsyncIterator[Checks]:
    """The checks that the settings name, ready: a classifier has loaded its weights.

    Raises:
        ValueError: one of them cannot be loaded.
    """
    prompt = await asyncio.to_thread(load_check, "checks.prompt", settings.prompt)
    image = await asyncio.to_thread(load_check, "checks.image", settings.image)
    checks = Checks(
        cast(PromptCheck | None, prompt), cast(ImageCheck | None, image), settings.timeout_s, settings.threads
    )
    try:
        yield checks
    finally:
        checks.close()


def load_check(setting: str, path: str | None) -> Callable[..., str | None] | None:
    """What a factory makes that is named as ``package.module:factory``; None if none is named.

    Raises:
        ValueError: there is no such factory, or it makes no check.
    """
    if path is None:
        return None
    module, _, factory = path.partition(":")
    try:
        check = getattr(import_module(module), factory)()
    except Exception as error:
        raise ValueError(f"{setting} is {path!r}, which cannot be loaded: {error!r}") from error
    if not callable(check):
        raise ValueError(f"{setting} is {path!r}, which makes no check but {check!r}")
    return cast(Callable[..., str | None], check)
