"""A pixel classifier that tells which shapes a picture of the world shows, without any learning.

Every pixel is given to the nearest colour of the palette; what remains of a colour after an erosion of one pixel is a
shape, and the kind is that of the drawing, at the same place and size, which overlaps it best.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from models.training.world import BACKGROUNDS, COLORS, KINDS, PLACES, RESOLUTION, SIZES, Scene, Shape, outline

PALETTE = np.array([*COLORS.values(), *BACKGROUNDS.values()], dtype=np.float32)
LEAST_PIXELS = 12  # of an eroded shape; the smallest true one, a small star, keeps about 25
LEAST_OVERLAP = 0.6  # intersection over union with the best drawing


@dataclass(frozen=True, slots=True)
class Sighting:
    """A shape found in a picture.

    Attributes:
        shape: what it is.
        overlap: intersection over union with a true drawing of it, 0…1.
    """

    shape: Shape
    overlap: float


def judge(picture: np.ndarray) -> Scene:
    """The scene that a picture shows, shapes in the order of the palette; of a muddle, those that are clear.

    Args:
        picture: uint8 ``[64, 64, 3]``.
    """
    colors = nearest_color(picture)
    counts = np.bincount(colors.ravel(), minlength=len(PALETTE))
    background = list(BACKGROUNDS)[int(counts[len(COLORS) :].argmax())]
    found = [sight(colors == index, color) for index, color in enumerate(COLORS)]
    return Scene(background, tuple(s.shape for s in found if s is not None and s.overlap >= LEAST_OVERLAP))


def nearest_color(picture: np.ndarray) -> np.ndarray:
    """Index into the palette of each pixel, ``[64, 64]``."""
    distances = ((picture[:, :, None].astype(np.float32) - PALETTE) ** 2).sum(-1)
    nearest: np.ndarray = distances.argmin(-1)
    return nearest


def erode(mask: np.ndarray) -> np.ndarray:
    """The pixels all of whose four neighbours are in the mask too."""
    kept: np.ndarray = mask & ~dilate(~mask)
    return kept


def dilate(mask: np.ndarray) -> np.ndarray:
    """The pixels that are in the mask or have one of their four neighbours there."""
    padded = np.pad(mask, 1)
    grown: np.ndarray = mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown


def sight(mask: np.ndarray, color: str) -> Sighting | None:
    """The shape that the pixels of one colour make, or None where they are only the rim of another."""
    core = erode(mask)
    if core.sum() < LEAST_PIXELS:
        return None
    # What the erosion took off comes back only next to what it left: rims of other shapes stay out.
    body = mask & dilate(dilate(core))
    rows, columns = np.nonzero(body)
    center = (columns.mean() + 0.5, rows.mean() + 0.5)
    place = min(PLACES, key=lambda p: math.dist(PLACES[p], center))
    candidates = [
        Sighting(Shape(kind, color, size, place), overlap(body, kind, radius))
        for kind in KINDS
        for size, radius in SIZES.items()
    ]
    return max(candidates, key=lambda sighting: sighting.overlap)


def overlap(mask: np.ndarray, kind: str, radius: float) -> float:
    """Intersection over union of a mask with a drawing of a shape moved to the mask's bounding box."""
    rows, columns = np.nonzero(mask)
    corners = outline(kind, (0.0, 0.0), radius)
    box_x = (min(x for x, _ in corners) + max(x for x, _ in corners)) / 2
    box_y = (min(y for _, y in corners) + max(y for _, y in corners)) / 2
    shift_x = (columns.min() + columns.max() + 1) / 2 - box_x
    shift_y = (rows.min() + rows.max() + 1) / 2 - box_y
    image = Image.new("1", (RESOLUTION * 4, RESOLUTION * 4))
    ImageDraw.Draw(image).polygon([((x + shift_x) * 4, (y + shift_y) * 4) for x, y in corners], fill=1)
    drawing = np.asarray(image).reshape(RESOLUTION, 4, RESOLUTION, 4).mean((1, 3)) > 0.5
    return float((drawing & mask).sum() / (drawing | mask).sum())
