"""Wishes: what a text asks for before a picture, which may leave things open."""

import itertools
from dataclasses import dataclass

from models.training.world.scene import Scene, Shape


@dataclass(frozen=True, slots=True)
class WishedShape:
    """One shape as a text asks for it; None is what the text leaves open."""

    kind: str | None = None
    color: str | None = None
    size: str | None = None
    place: str | None = None

    @classmethod
    def of(cls, shape: Shape) -> "WishedShape":
        """The wish for exactly this shape."""
        return cls(shape.kind, shape.color, shape.size, shape.place)

    def agrees(self, shape: Shape) -> bool:
        """Whether a shape is what was asked for."""
        asked = ((self.kind, shape.kind), (self.color, shape.color), (self.size, shape.size), (self.place, shape.place))
        return all(wished is None or wished == drawn for wished, drawn in asked)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a text asks for before a picture.

    Attributes:
        background: None where it is open.
        shapes: in the order in which the text names them; None where even their number is open.
    """

    background: str | None = None
    shapes: tuple[WishedShape, ...] | None = None

    @classmethod
    def of(cls, scene: Scene) -> "Wish":
        """The wish for exactly this scene."""
        return cls(scene.background, tuple(map(WishedShape.of, scene.shapes)))

    def agrees(self, scene: Scene) -> bool:
        """Whether a scene is what was asked for; the order of its shapes doesn't matter."""
        if self.background not in (None, scene.background):
            return False
        if self.shapes is None:
            return True
        return len(self.shapes) == len(scene.shapes) and any(
            all(wished.agrees(shape) for wished, shape in zip(self.shapes, order, strict=True))
            for order in itertools.permutations(scene.shapes)
        )
