"""Scenes: what there is in the world, which of it fits into one picture, and what training must not see."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

Color = tuple[int, int, int]
Point = tuple[float, float]

KINDS = ("circle", "square", "triangle", "star")
COLORS: dict[str, Color] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 215, 30),
    "green": (40, 160, 70),
    "blue": (45, 85, 215),
    "purple": (135, 50, 175),
    "pink": (245, 130, 190),
    "brown": (120, 72, 35),
}
BACKGROUNDS: dict[str, Color] = {
    "white": (246, 246, 246),
    "gray": (150, 152, 156),
    "black": (18, 18, 22),
    "mint": (175, 232, 208),
}
SIZES: dict[str, float] = {"small": 6.0, "big": 10.0, "huge": 15.0}  # radius in pixels
PLACES: dict[str, Point] = {
    "center": (32.0, 32.0),
    "top left": (16.0, 16.0),
    "top": (32.0, 16.0),
    "top right": (48.0, 16.0),
    "left": (16.0, 32.0),
    "right": (48.0, 32.0),
    "bottom left": (16.0, 48.0),
    "bottom": (32.0, 48.0),
    "bottom right": (48.0, 48.0),
}
HOLLOW = ("circle", "square")  # kinds with room for a small shape inside a huge one

HELD_OUT_PAIRS = {("purple", "circle"), ("green", "square"), ("orange", "triangle"), ("blue", "star")}

JITTER = 1.5  # pixels by which a shape may miss its place, in steps of a quarter


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: each field is a key of the table of that name."""

    kind: str
    color: str
    size: str
    place: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture: its background and its one to three shapes, in the order in which a text names them."""

    background: str
    shapes: tuple[Shape, ...]


def inside(inner: Shape, outer: Shape) -> bool:
    """Whether one shape lies inside another."""
    return (
        inner.place == outer.place
        and (inner.size, outer.size) == ("small", "huge")
        and outer.kind in HOLLOW
        and inner.color != outer.color
    )


def fits(shapes: tuple[Shape, ...]) -> bool:
    """Whether shapes can share a picture: colours differ, and nothing overlaps but a shape inside another.

    A shape inside another is named right before it: then a text can say so.
    """
    for (i, a), (j, b) in itertools.combinations(enumerate(shapes), 2):
        if a.color == b.color:
            return False
        apart = math.dist(PLACES[a.place], PLACES[b.place]) >= SIZES[a.size] + SIZES[b.size] + 2 * JITTER
        if not (apart or (j == i + 1 and inside(a, b))):
            return False
    return True


def held_out(shape: Shape) -> bool:
    """Whether training must not see such a shape: a held-out pair anywhere, or one of some pairs at one place."""
    if (shape.color, shape.kind) in HELD_OUT_PAIRS:
        return True
    # About one triple in 13, spread evenly over colours, kinds and places.
    color, kind, place = list(COLORS).index(shape.color), KINDS.index(shape.kind), list(PLACES).index(shape.place)
    return (4 * color + 7 * kind + place) % 13 == 0


def trainable(shapes: Iterable[Shape]) -> bool:
    """Whether training may see all of these shapes."""
    return not any(held_out(shape) for shape in shapes)
