"""A trial: one request whose right answer is known, and what came of it."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from server.evaluation.scores import Marks

Part = str | np.ndarray | None
"""Text, a picture (uint8 ``[height, width, 3]``), or a picture that could not be drawn."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the model is asked.

    Attributes:
        prompt: texts, and pictures that the user shows, uint8 ``[height, width, 3]``.
        seed: of the text and of the pictures.
        max_pictures: more than a right answer has, so that too many are seen.
        greedy: the likeliest text, rather than text sampled as the server does by default.
        feedback: whether the model is shown the pictures that it drew.
    """

    prompt: tuple[str | np.ndarray, ...]
    seed: int
    max_pictures: int
    greedy: bool = False
    feedback: Literal["image", "none"] = "image"

    @property
    def text(self) -> str:
        """What the user writes."""
        return " ".join(piece for piece in self.prompt if isinstance(piece, str))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered: its parts in order. Neighbouring parts are not both text."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All of its text."""
        return " ".join(part.strip() for part in self.parts if isinstance(part, str))

    @property
    def is_text(self) -> bool:
        """Whether it has no picture."""
        return all(isinstance(part, str) for part in self.parts)

    @property
    def first_picture(self) -> np.ndarray | None:
        """The first picture, if there is one."""
        return next((part for part in self.parts if isinstance(part, np.ndarray)), None)

    @property
    def pictures(self) -> tuple[tuple[str, np.ndarray | None], ...]:
        """The pictures, each with the text since the one before it; None for those that could not be drawn."""
        pairs, text = [], ""
        for part in self.parts:
            if isinstance(part, str):
                text = part
            else:
                pairs.append((text, part))
                text = ""
        return tuple(pairs)

    @property
    def last_text(self) -> str:
        """The text after the last picture, or all of it where there is none."""
        last = self.parts[-1] if self.parts else None
        return last if isinstance(last, str) else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        marks: by measure.
        right: whether what the trial is about came out right.
        remark: what was seen, in a few words.
    """

    marks: Marks = field(repr=False)
    right: bool
    remark: str


class Trial(Protocol):
    """One request and its truth.

    Attributes:
        section: what the trial is about.
        input: what the model is given.
    """

    @property
    def section(self) -> str: ...

    @property
    def input(self) -> ModelInput: ...

    def assess(self, answer: Answer) -> Outcome:
        """What an answer is worth. Pure: the same answer, the same outcome."""
