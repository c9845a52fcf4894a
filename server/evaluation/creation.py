"""Creation: does a picture show what was asked for?

A picture has the colours and kinds asked for if it has exactly those, no shape more and none less. Places, sizes and
the background count where they were asked for.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from models.training.documents.requests import Request, ask_by_relation, ask_for_scene
from models.training.world import COUNTS, HELD_OUT_PAIRS, RELATIONS, Scene, Wish, holds
from server.evaluation.agreement import Sight, colors_and_kinds, pair, wording
from server.evaluation.judging import seen
from server.evaluation.scores import Marks, Tally
from server.evaluation.trial import Answer, ModelInput, Outcome

GOLDEN = 0.6180339887498949  # its multiples, modulo 1, fill every stretch of 0…1 evenly


@dataclass(frozen=True, slots=True)
class Drawing:
    """What of a wish a picture shows.

    Attributes:
        wish: asks for certain shapes.
        scene: what the judge sees; None without a picture.
    """

    wish: Wish
    scene: Scene | None

    @property
    def sights(self) -> tuple[Sight, ...]:
        """The shapes asked for, each with what is there."""
        return pair(self.wish.shapes or (), self.scene)

    @property
    def has_colors_and_kinds(self) -> bool:
        """Whether the picture has exactly the colours and kinds asked for."""
        drawn = self.scene.shapes if self.scene else ()
        return colors_and_kinds(drawn) == colors_and_kinds(self.wish.shapes or ())

    @property
    def remark(self) -> str:
        """What is there, for people."""
        return f"seen: {wording(self.scene)}"

    def marks(self) -> Marks:
        """Tallies of all that creation measures; what was not asked for is not in them."""
        sights = self.sights
        colors_kinds = Tally.one(self.has_colors_and_kinds)
        places = [sight.right("place") for sight in sights if sight.wished.place]
        sizes = [sight.right("size") for sight in sights if sight.wished.size]
        marks = {
            "creation.color_kind": colors_kinds,
            f"creation.color_kind.{len(sights)}": colors_kinds,
            "creation.shape.color_kind": Tally(sum(s.right("color", "kind") for s in sights), len(sights)),
            "creation.everything": Tally.one(self.scene is not None and self.wish.agrees(self.scene)),
        }
        if places:
            marks["creation.place"] = Tally.one(all(places))
            marks["creation.shape.place"] = Tally(sum(places), len(places))
        if sizes:
            marks["creation.size"] = Tally.one(all(sizes))
        if self.wish.background:
            right = self.scene is not None and self.scene.background == self.wish.background
            marks["creation.background"] = Tally.one(right)
        return marks


@dataclass(frozen=True, slots=True)
class SinglePictureTrial:
    """A request for one picture."""

    request: Request
    seed: int

    @property
    def input(self) -> ModelInput:
        return ModelInput((self.request.text,), self.seed, max_pictures=2)

    def drawing(self, answer: Answer) -> Drawing:
        """What of the request the first picture of an answer shows."""
        return Drawing(self.request.wishes[0], seen(answer.first_picture))


@dataclass(frozen=True, slots=True)
class CreationTrial(SinglePictureTrial):
    """A request for a picture of the training world."""

    section: ClassVar[str] = "creation"

    def assess(self, answer: Answer) -> Outcome:
        drawing = self.drawing(answer)
        marks = drawing.marks()
        return Outcome(marks, marks["creation.everything"].right == 1, drawing.remark)


@dataclass(frozen=True, slots=True)
class RelationTrial(SinglePictureTrial):
    """A request for two shapes, the first of which stands in a relation to the second."""

    relation: str
    section: ClassVar[str] = "relations"

    def assess(self, answer: Answer) -> Outcome:
        drawing = self.drawing(answer)
        first, second = (sight.shape for sight in drawing.sights)
        right = (
            drawing.has_colors_and_kinds
            and first is not None
            and second is not None
            and holds(self.relation, first, second)
        )
        tally = Tally.one(right)
        marks = {"relations": tally, f"relations.{self.relation.replace(' ', '_')}": tally}
        return Outcome(marks, right, drawing.remark)


@dataclass(frozen=True, slots=True)
class CompositionTrial(SinglePictureTrial):
    """A request for a picture with a combination that never occurs in training."""

    section: ClassVar[str] = "composition"

    @property
    def combination(self) -> str:
        """What was held out: a ``pair`` of a colour and a kind, or a ``triple`` of these and a place."""
        shapes = self.request.scenes[0].shapes
        return "pair" if any((shape.color, shape.kind) in HELD_OUT_PAIRS for shape in shapes) else "triple"

    def assess(self, answer: Answer) -> Outcome:
        drawing = self.drawing(answer)
        right = drawing.has_colors_and_kinds and all(sight.right("place") for sight in drawing.sights)
        tally = Tally.one(right)
        marks = {
            "composition": tally,
            f"composition.{self.combination}": tally,
            "composition.color_kind": Tally.one(drawing.has_colors_and_kinds),
        }
        return Outcome(marks, right, drawing.remark)


def creation_trials(rng: random.Random, count: int) -> Iterator[CreationTrial]:
    """Requests for pictures, their numbers of shapes in the shares of the training world.

    Every other one says all that the picture shows.
    """
    for number in range(count):
        shapes = number_of_shapes(number * GOLDEN % 1)
        yield CreationTrial(ask_for_scene(rng, shapes, full=number % 2 == 0), rng.getrandbits(31))


def number_of_shapes(quantile: float) -> int:
    """Of the pictures of the training world, from 0 for the fewest to 1 for the most."""
    reached = 0.0
    for shapes, part in COUNTS.items():
        reached += part
        if quantile < reached:
            return shapes
    return max(COUNTS)


def relation_trials(rng: random.Random, count: int) -> Iterator[RelationTrial]:
    """Requests by relation, one after the other."""
    for number in range(count):
        relation = RELATIONS[number % len(RELATIONS)]
        yield RelationTrial(ask_by_relation(rng, relation), rng.getrandbits(31), relation)


def composition_trials(rng: random.Random, count: int) -> Iterator[CompositionTrial]:
    """Requests for held-out combinations, alone and beside another shape, that say all that the picture shows."""
    for number in range(count):
        request = ask_for_scene(rng, 1 + number % 2, held_out=True, full=True)
        yield CompositionTrial(request, rng.getrandbits(31))
