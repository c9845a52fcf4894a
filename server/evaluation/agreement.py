"""How far a picture shows what was asked for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

from models.training.world import Scene, Shape, Wish, WishedShape

ATTRIBUTES = ("kind", "color", "size", "place")


def asked(wished: WishedShape) -> dict[str, str]:
    """The attributes of a shape that are not left open."""
    return {name: value for name in ATTRIBUTES if (value := getattr(wished, name)) is not None}


@dataclass(frozen=True, slots=True)
class Sight:
    """One shape that was asked for, and what the picture has for it; None where it has nothing."""

    wished: WishedShape
    shape: Shape | None

    def right(self, *names: str) -> bool:
        """Whether these attributes, as far as they were asked for, are right. None is of a shape that is missing."""
        wanted = asked(self.wished)
        return self.shape is not None and all(getattr(self.shape, n) == wanted[n] for n in names if n in wanted)

    @property
    def likeness(self) -> tuple[int, int]:
        """How much speaks for this being the shape that was meant: colour and kind together before all else."""
        alike = sum(getattr(self.shape, name, None) == value for name, value in asked(self.wished).items())
        return self.right("color", "kind"), alike


def pair(wished: tuple[WishedShape, ...], scene: Scene | None) -> tuple[Sight, ...]:
    """Shapes asked for, each with the one drawn that is most like it."""
    drawn: tuple[Shape | None, ...] = scene.shapes if scene else ()
    pairings = (
        tuple(Sight(w, s) for w, s in zip(wished, order, strict=True))
        for order in permutations((*drawn, *[None] * len(wished)), len(wished))
    )
    return max(pairings, key=lambda sights: [sum(counts) for counts in zip(*(s.likeness for s in sights), strict=True)])


def colors_and_kinds(shapes: Iterable[Shape | WishedShape]) -> Counter[tuple[str | None, str | None]]:
    """How often each colour and kind occur together."""
    return Counter((shape.color, shape.kind) for shape in shapes)


def wording(scene: Scene | Wish | None) -> str:
    """A scene in a few words: ``big red circle left, small blue star top on white``."""
    if scene is None:
        return "no picture"
    shapes = ", ".join(
        " ".join(word for word in (s.size, s.color, s.kind, s.place) if word) or "a shape" for s in scene.shapes or ()
    )
    background = f" on {scene.background}" if scene.background else ""
    return f"{shapes or 'no shape'}{background}"
