"""A synthetic world: pictures of one or two coloured shapes, drawn from a description that fits in one sentence.

Everything that a picture shows is a value of :class:`Scene`, so data needs no download and every picture has an exact
truth to be judged by.
"""

import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RESOLUTION = 64  # pixels
SUPERSAMPLING = 4

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
SIZES: dict[str, float] = {"small": 7.0, "big": 11.5}  # radius in pixels
PLACES: dict[str, Point] = {
    "center": (32.0, 32.0),
    "top left": (16.0, 16.0),
    "top right": (48.0, 16.0),
    "bottom left": (16.0, 48.0),
    "bottom right": (48.0, 48.0),
}
JITTER = 1.5  # pixels by which a shape may miss its place


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: each field is a key of the table of that name."""

    kind: str
    color: str
    size: str
    place: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture: its background and its one or two shapes, of different colours and at different places."""

    background: str
    shapes: tuple[Shape, ...]


def fits(shapes: tuple[Shape, ...]) -> bool:
    """Whether shapes can share a picture: colours and places differ, and nothing overlaps."""
    for a, b in itertools.combinations(shapes, 2):
        if a.color == b.color or a.place == b.place:
            return False
        if "center" in (a.place, b.place) and (a.size, b.size) == ("big", "big"):
            return False
    return True


def sample_shape(rng: random.Random) -> Shape:
    """A shape, all of its fields uniform."""
    return Shape(rng.choice(KINDS), rng.choice(list(COLORS)), rng.choice(list(SIZES)), rng.choice(list(PLACES)))


def sample_scene(rng: random.Random, shapes: int | None = None) -> Scene:
    """A scene of so many shapes; of one or two, evenly, if that is not given."""
    count = rng.choice((1, 2)) if shapes is None else shapes
    while True:
        chosen = tuple(sample_shape(rng) for _ in range(count))
        if fits(chosen):
            return Scene(rng.choice(list(BACKGROUNDS)), chosen)


def outline(kind: str, center: Point, radius: float) -> list[Point]:
    """Corners of a shape, in pixels. A circle is a polygon of 48 corners.

    Raises:
        ValueError: there is no such shape.
    """
    x, y = center
    match kind:
        case "circle":
            corners = [(i / 48, 1.0) for i in range(48)]
        case "square":
            corners = [((i + 0.5) / 4, 1.25) for i in range(4)]
        case "triangle":
            corners = [(i / 3, 1.2) for i in range(3)]
        case "star":
            corners = [(i / 10, 1.2 if i % 2 == 0 else 0.5) for i in range(10)]
        case _:
            raise ValueError(f"no shape {kind!r}")
    angles = [(2 * math.pi * turn - math.pi / 2, scale * radius) for turn, scale in corners]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in angles]


def draw(scene: Scene, rng: random.Random | None = None) -> np.ndarray:
    """The picture of a scene, uint8 ``[64, 64, 3]``, anti-aliased. With ``rng``, shapes miss their places a little."""
    side = RESOLUTION * SUPERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        x, y = PLACES[shape.place]
        if rng is not None:
            x, y = x + rng.uniform(-JITTER, JITTER), y + rng.uniform(-JITTER, JITTER)
        corners = outline(shape.kind, (x, y), SIZES[shape.size])
        pen.polygon([(px * SUPERSAMPLING, py * SUPERSAMPLING) for px, py in corners], fill=COLORS[shape.color])
    return np.asarray(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.BOX))
