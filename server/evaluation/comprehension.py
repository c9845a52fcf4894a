"""Comprehension: questions about true pictures, each with its one right answer, and descriptions of them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from models.training.documents.pictures import DESCRIBE
from models.training.documents.questions import TOPICS, Question, sample_question
from models.training.documents.wording import read
from models.training.world import Scene, Wish, draw, sample_scene
from server.evaluation.agreement import wording
from server.evaluation.scores import Tally
from server.evaluation.trial import Answer, ModelInput, Outcome

DESCRIPTION = "description"


@dataclass(frozen=True, slots=True)
class QuestionTrial:
    """A question about a picture."""

    question: Question
    picture: np.ndarray = field(repr=False)
    seed: int
    held_out: bool
    section: ClassVar[str] = "comprehension"

    @property
    def input(self) -> ModelInput:
        return question_input(self.picture, self.question.text, self.seed)

    def assess(self, answer: Answer) -> Outcome:
        right = answer.is_text and self.question.answered_by(answer.text)
        return Outcome(marks(self.question.topic, right, self.held_out), right, f"true: {self.question.answer}")


@dataclass(frozen=True, slots=True)
class DescriptionTrial:
    """A picture to describe: all that it shows must be said, and nothing else."""

    scene: Scene
    text: str
    picture: np.ndarray = field(repr=False)
    seed: int
    section: ClassVar[str] = "comprehension"

    @property
    def input(self) -> ModelInput:
        return question_input(self.picture, self.text, self.seed)

    def assess(self, answer: Answer) -> Outcome:
        told, truth = read(answer.text), Wish.of(self.scene)
        right = (
            answer.is_text
            and told is not None
            and told.background == truth.background
            and set(told.shapes or ()) == set(truth.shapes or ())
        )
        return Outcome(marks(DESCRIPTION, right, held_out=False), right, f"true: {wording(self.scene)}")


def question_input(picture: np.ndarray, text: str, seed: int) -> ModelInput:
    """A picture and what is asked about it. The model may draw, so that it is seen if it does."""
    return ModelInput((picture, text), seed, max_pictures=1, greedy=True)


def marks(topic: str, right: bool, held_out: bool) -> dict[str, Tally]:
    """The tallies of one answer. Held-out combinations are counted by themselves."""
    tally = Tally.one(right)
    return {"comprehension.held_out": tally} if held_out else {"comprehension": tally, f"comprehension.{topic}": tally}


def comprehension_trials(rng: random.Random, count: int) -> Iterator[QuestionTrial | DescriptionTrial]:
    """Questions of all topics and descriptions in turn, then a fourth as many questions about held-out combinations."""
    topics = (*TOPICS, DESCRIPTION)
    for number in range(count):
        topic = topics[number % len(topics)]
        if topic == DESCRIPTION:
            scene = sample_scene(rng)
            yield DescriptionTrial(scene, rng.choice(DESCRIBE), draw(scene, rng), rng.getrandbits(31))
        else:
            yield question_trial(rng, topic, held_out=False)
    for number in range(count // 4):
        yield question_trial(rng, list(TOPICS)[number % len(TOPICS)], held_out=True)


def question_trial(rng: random.Random, topic: str, *, held_out: bool) -> QuestionTrial:
    """A question of a topic about a new picture."""
    question = sample_question(rng, topic, held_out=held_out)
    return QuestionTrial(question, draw(question.scene, rng), rng.getrandbits(31), held_out)
