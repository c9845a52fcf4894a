"""Questions about a picture, each with its one right answer. Training learns them, evaluation scores replies."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from models.training.documents.wording import NUMBERS, WHERE, name, sentence
from models.training.world import RELATIONS, Scene, Shape, holds, sample_scene


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture.

    Attributes:
        scene: what the picture shows.
        text: the question.
        answer: the one right answer.
        topic: a key of :data:`TOPICS`.
    """

    scene: Scene
    text: str
    answer: str
    topic: str

    def answered_by(self, reply: str) -> bool:
        """Whether a reply is the right answer; capitals and the full stop don't matter."""
        return plain(reply) == plain(self.answer)


def plain(text: str) -> str:
    """The words alone."""
    return text.strip().rstrip(".").lower()


NAMING: dict[str, str] = {"kind": "the {}", "color": "the {} shape", "size": "the {} shape", "place": "the shape {}"}
TELLING: dict[str, str] = {"kind": "a {}", "color": "{}", "size": "{}", "place": "{}"}


def statements_about(scene: Scene) -> list[str]:
    """Everything that names a shape by one attribute, which no other shape shares, and tells another one of it."""
    statements = []
    for shape, attribute in itertools.product(scene.shapes, NAMING):
        value = getattr(shape, attribute)
        if any(getattr(other, attribute) == value for other in scene.shapes if other is not shape):
            continue
        subject = NAMING[attribute].format(WHERE.get(value, value))
        for told in TELLING.keys() - {attribute}:
            value = getattr(shape, told)
            statements.append(sentence(f"{subject} is {TELLING[told].format(WHERE.get(value, value))}"))
    return sorted(statements)


Exchange = tuple[str, str]  # a question and its answer


def unique_kinds(scene: Scene) -> list[Shape]:
    """The shapes that their kind alone names."""
    return [a for a in scene.shapes if not any(a.kind == b.kind for b in scene.shapes if b is not a)]


def unique_places(scene: Scene) -> list[Shape]:
    """The shapes that their place alone names: all but those of which one is inside another."""
    return [a for a in scene.shapes if not any(a.place == b.place for b in scene.shapes if b is not a)]


def about_color(scene: Scene) -> list[Exchange]:
    """What color is …?"""
    named = [(f"What color is the {s.kind}?", f"The {s.kind} is {s.color}.") for s in unique_kinds(scene)]
    placed = [(f"What color is the shape {WHERE[s.place]}?", f"It is {s.color}.") for s in unique_places(scene)]
    return named + placed


def about_kind(scene: Scene) -> list[Exchange]:
    """What is red? What is in the center?"""
    colored = [(f"Which shape is {s.color}?", f"The {s.kind} is {s.color}.") for s in scene.shapes]
    placed = [(f"What is {WHERE[s.place]}?", f"A {s.size} {name(s)}.") for s in unique_places(scene)]
    return colored + placed


def about_place(scene: Scene) -> list[Exchange]:
    """Where is …?"""
    colored = [(f"Where is the {name(s)}?", f"It is {WHERE[s.place]}.") for s in scene.shapes]
    named = [(f"Where is the {s.kind}?", f"It is {WHERE[s.place]}.") for s in unique_kinds(scene)]
    return colored + named


def about_size(scene: Scene) -> list[Exchange]:
    """How big is …?"""
    colored = [(f"How big is the {name(s)}?", f"It is {s.size}.") for s in scene.shapes]
    named = [(f"How big is the {s.kind}?", f"It is {s.size}.") for s in unique_kinds(scene)]
    return colored + named


def about_count(scene: Scene) -> list[Exchange]:
    """How many?"""
    count = len(scene.shapes)
    answer = "There is one shape." if count == 1 else f"There are {NUMBERS[count]} shapes."
    return [("How many shapes are there?", answer), ("How many shapes do you see?", answer)]


def background_of(scene: Scene) -> str:
    """What tells the background."""
    return f"The background is {scene.background}."


def about_background(scene: Scene) -> list[Exchange]:
    """The background."""
    answer = background_of(scene)
    return [("What color is the background?", answer), ("What is the background?", answer)]


def about_relation(scene: Scene) -> list[Exchange]:
    """Is … left of …? What is above …? About as many answers are yes as no."""
    exchanges = []
    for relation in RELATIONS:
        for a, b in itertools.permutations(scene.shapes, 2):
            if holds(relation, a, b):
                exchanges.append((f"Is the {name(a)} {relation} the {name(b)}?", "Yes."))
                exchanges.append((f"Is the {name(b)} {relation} the {name(a)}?", "No."))
        for b in scene.shapes:
            found = [a for a in scene.shapes if a is not b and holds(relation, a, b)]
            if len(found) == 1:
                exchanges.append((f"What is {relation} the {name(b)}?", f"The {name(found[0])}."))
    return exchanges


TOPICS: dict[str, Callable[[Scene], list[Exchange]]] = {
    "color": about_color,
    "kind": about_kind,
    "place": about_place,
    "size": about_size,
    "count": about_count,
    "background": about_background,
    "relation": about_relation,
}


def questions_about(scene: Scene, topic: str) -> list[Question]:
    """Every question of a topic about a scene; none about relations of one shape."""
    return [Question(scene, text, answer, topic) for text, answer in TOPICS[topic](scene)]


def sample_question(rng: random.Random, topic: str | None = None, *, held_out: bool = False) -> Question:
    """A question about a scene of the world; ``held_out`` as of :func:`sample_scene`."""
    topic = topic or rng.choice(list(TOPICS))
    while True:
        questions = questions_about(sample_scene(rng, held_out=held_out), topic)
        if questions:
            return rng.choice(questions)
