"""A synthetic world: pictures of one to three coloured shapes, drawn from a description that fits in one sentence.

Everything that a picture shows is a value of :class:`Scene`, so data needs no download and every picture has an exact
truth to be judged by. What a text asks for, which may leave things open, is a :class:`Wish`.

Some combinations of colour, shape and place are *held out*: they never occur in training, and test composition.
"""

from models.training.world.drawing import (
    RESOLUTION,
    draw,
    outline,
)
from models.training.world.relations import (
    LAYOUTS,
    RELATIONS,
    holds,
    related,
)
from models.training.world.sampling import (
    COUNTS,
    complete,
    sample_scene,
    sample_shape,
)
from models.training.world.scene import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    HOLLOW,
    KINDS,
    PLACES,
    SIZES,
    Color,
    Point,
    Scene,
    Shape,
    fits,
    held_out,
    inside,
    trainable,
)
from models.training.world.wish import (
    Wish,
    WishedShape,
)

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "COUNTS",
    "HELD_OUT_PAIRS",
    "HOLLOW",
    "KINDS",
    "LAYOUTS",
    "PLACES",
    "RELATIONS",
    "RESOLUTION",
    "SIZES",
    "Color",
    "Point",
    "Scene",
    "Shape",
    "Wish",
    "WishedShape",
    "complete",
    "draw",
    "fits",
    "held_out",
    "holds",
    "inside",
    "outline",
    "related",
    "sample_scene",
    "sample_shape",
    "trainable",
]
