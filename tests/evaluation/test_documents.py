"""Documents of several pictures, and pictures of which something was left open."""

import random
from dataclasses import replace

import numpy as np
import pytest

from models.training.documents.requests import CHOICES
from models.training.documents.wording import article
from models.training.world import COLORS, KINDS, Scene, Shape, Wish, WishedShape, draw
from server.evaluation.feedback import FeedbackTrial, feedback_trials
from server.evaluation.interleaving import InterleavingTrial, statements
from server.evaluation.scores import Marks
from server.evaluation.trial import Answer, Part
from tests.evaluation.perfect import answered_document, perfect_answer

OTHER = draw(
    Scene(
        "gray",
        tuple(
            Shape("star", color, "small", place)
            for color, place in zip(COLORS, ["top", "left", "right", "bottom"], strict=False)
        ),
    )
)


def missed(marks: Marks) -> set[str]:
    """The measures that are not full."""
    return {name for name, tally in marks.items() if tally.right < tally.of}


@pytest.fixture(params=["several", "story", "steps"])
def document(request: pytest.FixtureRequest) -> tuple[InterleavingTrial, list[Part]]:
    """A trial, and the parts of an answer without a fault: a text before each picture, perhaps one after the last."""
    trial, answer = answered_document(request.param, seed=1)
    return trial, list(answer.parts)


def whole(trial: InterleavingTrial) -> set[str]:
    """What any fault costs."""
    return {"interleaving", f"interleaving.{trial.kind}"}


def test_a_picture_too_few_costs_the_number(document: tuple[InterleavingTrial, list[Part]]) -> None:
    trial, parts = document
    last = max(i for i, part in enumerate(parts) if isinstance(part, np.ndarray))
    outcome = trial.assess(Answer(tuple(parts[: last - 1])))
    assert missed(outcome.marks) == whole(trial) | {"interleaving.number", "interleaving.request"}


def test_a_picture_too_many_costs_the_number(document: tuple[InterleavingTrial, list[Part]]) -> None:
    trial, parts = document
    more = ("Next is a small red star.", draw(Scene("white", (Shape("star", "red", "small", "left"),))))
    outcome = trial.assess(Answer((*parts, *more)))
    assert missed(outcome.marks) == whole(trial) | {"interleaving.number"}


def test_a_picture_without_a_text_about_it_costs_its_place(document: tuple[InterleavingTrial, list[Part]]) -> None:
    trial, parts = document
    parts[0] = "Look."
    outcome = trial.assess(Answer(tuple(parts)))
    assert missed(outcome.marks) >= whole(trial) | {"interleaving.places", "interleaving.agreement"}
    assert "interleaving.number" not in missed(outcome.marks)


def test_a_picture_that_shows_something_else_costs_the_agreement(
    document: tuple[InterleavingTrial, list[Part]],
) -> None:
    trial, parts = document
    parts[1] = OTHER
    outcome = trial.assess(Answer(tuple(parts)))
    costs = {"interleaving.agreement", "interleaving.request"}
    assert missed(outcome.marks) == whole(trial) | costs
    assert outcome.marks["interleaving.agreement"].right == len(trial.request.wishes) - 1


def test_a_picture_that_failed_disagrees(document: tuple[InterleavingTrial, list[Part]]) -> None:
    trial, parts = document
    parts[1] = None
    assert "interleaving.agreement" in missed(trial.assess(Answer(tuple(parts))).marks)


def test_steps_keep_what_was_said_before() -> None:
    texts = (
        "Step 1: a red star on the left on a white background.",
        "Step 2: add a small blue circle.",
        "Step 3: make the background mint.",
    )
    star, circle = WishedShape("star", "red", None, "left"), WishedShape("circle", "blue", "small")
    assert list(statements(texts)) == [
        Wish("white", (star,)),
        Wish("white", (star, circle)),
        Wish("mint", (star, circle)),
    ]


def surprises() -> dict[str, FeedbackTrial]:
    """A trial with feedback for each choice."""
    trials = [trial for trial in feedback_trials(random.Random(8), len(CHOICES)) if trial.feedback == "image"]
    return {trial.choice: trial for trial in trials}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_text_that_names_something_else_than_was_drawn_is_wrong(choice: str) -> None:
    trial = surprises()[choice]
    answer = perfect_answer(trial)
    assert trial.assess(answer).right
    shape = trial.request.scenes[0].shapes[0]
    color = next(c for c in COLORS if c != shape.color) if choice != "kind" else shape.color
    kind = next(k for k in KINDS if k != shape.kind) if choice == "kind" else shape.kind
    wrong = f"It is {article(f'{color} {kind}')}."
    assert not trial.assess(Answer((*answer.parts[:-1], wrong))).right


@pytest.mark.parametrize("choice", CHOICES)
def test_a_text_that_does_not_name_what_was_left_open_is_wrong(choice: str) -> None:
    trial = surprises()[choice]
    answer = perfect_answer(trial)
    vague = "It is a shape." if choice != "color" else f"It is a {trial.request.scenes[0].shapes[0].kind}."
    for after in (vague, "Do you like it?", ""):
        assert not trial.assess(Answer((*answer.parts[:-1], after))).right


def test_a_text_without_a_picture_is_wrong() -> None:
    trial = surprises()["color"]
    text = perfect_answer(trial).last_text
    assert not trial.assess(Answer((text,))).right


def test_the_control_asks_the_same_without_feedback() -> None:
    shown, blind = list(feedback_trials(random.Random(8), 1))
    assert blind.input == replace(shown.input, feedback="none")
    answer = perfect_answer(shown)
    assert set(shown.assess(answer).marks) == {"feedback"}
    assert set(blind.assess(answer).marks) == {"feedback.control"}
