"""Feedback: the text before a picture leaves something open; does the text after it say what the picture became?

Only who sees the picture can tell. So the same requests without feedback are the control, and near chance.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from models.training.documents.requests import CHOICES, Request, ask_for_surprise
from models.training.documents.wording import read
from models.training.world import Wish
from server.evaluation.agreement import wording
from server.evaluation.judging import seen
from server.evaluation.scores import Tally
from server.evaluation.trial import Answer, ModelInput, Outcome

OPEN = {"color": ("color",), "kind": ("kind",)}  # what a text must name, by what was left open
OPEN_OTHERWISE = ("color", "kind")


@dataclass(frozen=True, slots=True)
class FeedbackTrial:
    """A request that leaves something to the model's own choice."""

    choice: str
    request: Request
    seed: int
    feedback: Literal["image", "none"]

    @property
    def section(self) -> str:
        return "feedback" if self.feedback == "image" else "control"

    @property
    def input(self) -> ModelInput:
        return ModelInput((self.request.text,), self.seed, max_pictures=2, feedback=self.feedback)

    def assess(self, answer: Answer) -> Outcome:
        scene = seen(answer.first_picture)
        told = read(answer.last_text)
        right = told is not None and scene is not None and names(told, self.choice) and told.agrees(scene)
        name = "feedback" if self.feedback == "image" else "feedback.control"
        return Outcome({name: Tally.one(right)}, right, f"seen: {wording(scene)}")


def names(told: Wish, choice: str) -> bool:
    """Whether a text says of every shape what was left open."""
    attributes = OPEN.get(choice, OPEN_OTHERWISE)
    return all(getattr(shape, name) is not None for shape in told.shapes or () for name in attributes)


def feedback_trials(rng: random.Random, count: int) -> Iterator[FeedbackTrial]:
    """Surprises of all kinds in turn, each with feedback and without."""
    for number in range(count):
        choice = CHOICES[number % len(CHOICES)]
        request, seed = ask_for_surprise(rng, choice), rng.getrandbits(31)
        yield FeedbackTrial(choice, request, seed, "image")
        yield FeedbackTrial(choice, request, seed, "none")
