"""Pictures of scenes, anti-aliased, as fast as training needs them: shapes are cached at every step of their jitter."""

import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from models.training.world.scene import BACKGROUNDS, COLORS, JITTER, PLACES, SIZES, Point, Scene

RESOLUTION = 64  # pixels
SUPERSAMPLING = 4
MARGIN = 24  # pixels around a shape's center that hold all of it, and around a picture while it is drawn


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
            corners = [(i / 3, 1.15) for i in range(3)]
        case "star":
            corners = [(i / 10, 1.1 if i % 2 == 0 else 0.5) for i in range(10)]
        case _:
            raise ValueError(f"no shape {kind!r}")
    angles = [(2 * math.pi * turn - math.pi / 2, scale * radius) for turn, scale in corners]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in angles]


@cache
def coverage(kind: str, size: str, right: int, down: int) -> np.ndarray:
    """How much of each pixel a shape covers, 0…1, float32 ``[48, 48, 1]``.

    The shape's center is that of the window, moved by so many quarters of a pixel.
    """
    side = 2 * MARGIN * SUPERSAMPLING
    center = (MARGIN + right / SUPERSAMPLING, MARGIN + down / SUPERSAMPLING)
    corners = [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in outline(kind, center, SIZES[size])]
    image = Image.new("1", (side, side))
    ImageDraw.Draw(image).polygon(corners, fill=1)
    samples = np.asarray(image, dtype=np.float32).reshape(2 * MARGIN, SUPERSAMPLING, 2 * MARGIN, SUPERSAMPLING)
    covered: np.ndarray = samples.mean((1, 3))[..., None]
    return covered


def draw(scene: Scene, rng: random.Random | None = None) -> np.ndarray:
    """The picture of a scene, uint8 ``[64, 64, 3]``, anti-aliased. With ``rng``, shapes miss their places a little.

    Shapes are drawn from the largest to the smallest, so that one inside another is seen.
    """
    side = RESOLUTION + 2 * MARGIN
    canvas = np.empty((side, side, 3), dtype=np.float32)
    canvas[:] = BACKGROUNDS[scene.background]
    steps = round(JITTER * SUPERSAMPLING)
    for shape in sorted(scene.shapes, key=lambda s: -SIZES[s.size]):
        x, y = PLACES[shape.place]
        right, down = (0, 0) if rng is None else (rng.randint(-steps, steps), rng.randint(-steps, steps))
        window = canvas[int(y) : int(y) + 2 * MARGIN, int(x) : int(x) + 2 * MARGIN]
        window += coverage(shape.kind, shape.size, right, down) * (
            np.array(COLORS[shape.color], dtype=np.float32) - window
        )
    return (canvas[MARGIN:-MARGIN, MARGIN:-MARGIN] + 0.5).astype(np.uint8)
