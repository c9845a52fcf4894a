"""Checks for tests, named in settings as ``tests.guard.example_checks:NAME``."""

import threading

import numpy as np

from server.guard.checks import CheckedImage, CheckedPrompt
from server.llm.conversation import TextPart


class ForbiddenWord:
    """Refuses prompts that say "forbidden" anywhere, and those with a red picture."""

    def __call__(self, prompt: CheckedPrompt) -> str | None:
        parts = [part for message in prompt.messages for part in message.parts]
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        if any("forbidden" in text for text in [*texts, prompt.negative_prompt or ""]):
            return "a word"
        pictures = [np.asarray(part.pixels) for part in parts if not isinstance(part, TextPart)]
        return "a picture" if any(is_red(pixels) for pixels in pictures) else None


class RedPictures:
    """Refuses red pictures and previews."""

    def __call__(self, image: CheckedImage) -> str | None:
        return "red" if is_red(image.pixels) else None


class Breaking:
    """Can judge nothing."""

    def __call__(self, checked: CheckedPrompt | CheckedImage) -> str | None:
        raise RuntimeError("the classifier is broken")


class Hanging:
    """Comes to no judgement before it is let go."""

    def __init__(self) -> None:
        self._may_end = threading.Event()

    def __call__(self, checked: CheckedPrompt | CheckedImage) -> str | None:
        assert self._may_end.wait(60)
        return None

    def let_go(self) -> None:
        self._may_end.set()


NOT_CALLABLE = str
"""A factory, but not of a check."""


def unloadable() -> None:
    """A factory that fails."""
    raise FileNotFoundError("weights.onnx")


def is_red(pixels: np.ndarray) -> bool:
    """Whether a picture is redder than anything else."""
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    return bool(red > 150 > 100 > max(green, blue))
