"""A pixel classifier that tells which shapes a picture of the world shows, without any learning.

Every pixel is given to the nearest colour of the palette. What remains of a colour after an erosion of one pixel is a
shape. How much of each pixel it covers follows from the mixture of its colour with the one behind it; the center of
that is its place, and its kind and size are those of the drawing, at this center, which overlaps it best.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.training.world import BACKGROUNDS, COLORS, KINDS, PLACES, RESOLUTION, SIZES, Color, Point, Scene, Shape
from models.training.world.drawing import MARGIN, SUPERSAMPLING, coverage

PALETTE = np.array([*COLORS.values(), *BACKGROUNDS.values()], dtype=np.float32)
LEAST_PIXELS = 3  # of an eroded shape; rims between two colours, which look like a third, are too thin to leave any
GROWTH = 6  # pixels to which the points of a star reach beyond what an erosion leaves
LEAST_OVERLAP = 0.6  # intersection over union with the best drawing
SURROUNDED = 0.8  # share of the ring around a shape that the shape around it has


@dataclass(frozen=True, slots=True)
class Body:
    """The pixels of one colour that make a shape, ``mask`` of shape ``[64, 64]``."""

    color: str
    mask: np.ndarray

    def surrounds(self, other: "Body") -> bool:
        """Whether another body lies inside this one."""
        near = dilate(dilate(other.mask))
        ring = dilate(near) & ~near  # beyond the rim, whose colours are mixed
        return other is not self and bool(self.mask[ring].mean() > SURROUNDED)


def judge(picture: np.ndarray) -> Scene:
    """The scene that a picture shows, of a muddle those shapes that are clear; a shape inside another comes before it.

    Args:
        picture: uint8 ``[64, 64, 3]``.
    """
    colors = nearest_color(picture)
    counts = np.bincount(colors.ravel(), minlength=len(PALETTE))
    background = list(BACKGROUNDS)[int(counts[len(COLORS) :].argmax())]
    masks = [find(colors == index) for index in range(len(COLORS))]
    bodies = [Body(color, mask) for color, mask in zip(COLORS, masks, strict=True) if mask.any()]
    shapes = []
    for outer in bodies:
        if any(body.surrounds(outer) for body in bodies):
            continue
        contents = [body for body in bodies if outer.surrounds(body)]
        shapes += [sight(picture, inner, [], COLORS[outer.color]) for inner in contents]
        shapes.append(sight(picture, outer, contents, BACKGROUNDS[background]))
    return Scene(background, tuple(shape for shape in shapes if shape is not None))


def nearest_color(picture: np.ndarray) -> np.ndarray:
    """Index into the palette of each pixel, ``[64, 64]``."""
    # The square of a pixel's own colour is left out of its squared distances: it is the same in all of them.
    nearest: np.ndarray = ((PALETTE**2).sum(-1) - 2 * picture.astype(np.float32) @ PALETTE.T).argmin(-1)
    return nearest


def dilate(mask: np.ndarray) -> np.ndarray:
    """The pixels that are in the mask or have one of their four neighbours there."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def find(mask: np.ndarray) -> np.ndarray:
    """The pixels of one colour that are part of a shape; none where they are only rims of others."""
    body: np.ndarray = mask & ~dilate(~mask)
    if body.sum() < LEAST_PIXELS:
        return np.zeros_like(mask)
    # What the erosion took off comes back only where it hangs together: rims of other shapes stay out.
    for _ in range(GROWTH):
        body = mask & dilate(body)
    return body


def sight(picture: np.ndarray, body: Body, contents: list[Body], behind: Color) -> Shape | None:
    """The shape that a body is, or None where no drawing overlaps it well.

    Args:
        picture: uint8 ``[64, 64, 3]``.
        body: its pixels.
        contents: what lies inside it.
        behind: the colour around it.
    """
    amount = covered(picture, body, behind)
    for inner in contents:
        amount[dilate(inner.mask)] = 1
    positions = np.arange(RESOLUTION) + 0.5
    x, y = (float(amount.sum(axis) @ positions / amount.sum()) for axis in (0, 1))
    place = min(PLACES, key=lambda p: math.dist(PLACES[p], (x, y)))
    candidates = [
        (overlap(amount, drawing(kind, size, (x, y))), Shape(kind, body.color, size, place))
        for kind in KINDS
        for size in SIZES
    ]
    best, shape = max(candidates, key=lambda candidate: candidate[0])
    return shape if best >= LEAST_OVERLAP else None


def covered(picture: np.ndarray, body: Body, behind: Color) -> np.ndarray:
    """How much of each pixel a body covers, 0…1, ``[64, 64]``: at its rim its colour is mixed with that behind it."""
    base = np.array(behind, dtype=np.float32)
    span = np.array(COLORS[body.color], dtype=np.float32) - base
    share = ((picture - base) @ span / (span @ span)).clip(0, 1)
    return np.where(dilate(body.mask), share, 0)


def drawing(kind: str, size: str, center: Point) -> np.ndarray:
    """How much of each pixel a true drawing covers, 0…1, ``[64, 64]``. All shapes have their center of mass there."""
    (x, right), (y, down) = (divmod(round(c * SUPERSAMPLING), SUPERSAMPLING) for c in center)
    canvas = np.zeros((RESOLUTION + 2 * MARGIN, RESOLUTION + 2 * MARGIN), dtype=np.float32)
    canvas[y : y + 2 * MARGIN, x : x + 2 * MARGIN] = coverage(kind, size, right, down)[..., 0]
    return canvas[MARGIN:-MARGIN, MARGIN:-MARGIN]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two coverages."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
