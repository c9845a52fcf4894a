"""Scenes at random, of the training world or beyond it, and scenes that agree with a wish."""

import random
from dataclasses import replace

from models.training.world.scene import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    HOLLOW,
    KINDS,
    PLACES,
    SIZES,
    Scene,
    Shape,
    fits,
    held_out,
    trainable,
)
from models.training.world.wish import Wish, WishedShape

COUNTS: dict[int, float] = {1: 0.5, 2: 0.35, 3: 0.15}  # number of shapes, and the share of scenes that have it
NESTED = 0.15  # share of the scenes of several shapes in which one is inside another


def sample_shape(rng: random.Random) -> Shape:
    """A shape, all of its fields uniform."""
    return Shape(rng.choice(KINDS), rng.choice(list(COLORS)), rng.choice(list(SIZES)), rng.choice(list(PLACES)))


def sample_shapes(rng: random.Random, count: int, *, nested: bool) -> tuple[Shape, ...]:
    """So many shapes, which may not fit; with ``nested`` the first is inside the second."""
    shapes = [sample_shape(rng) for _ in range(count)]
    if nested:
        inner, outer = shapes[:2]
        shapes[0] = replace(inner, size="small", place=outer.place)
        shapes[1] = replace(outer, size="huge", kind=rng.choice(HOLLOW))
    return tuple(shapes)


def sample_scene(rng: random.Random, shapes: int | None = None, *, held_out: bool = False) -> Scene:
    """A scene of the training world.

    Args:
        rng: decides everything.
        shapes: how many; by default one to three, as :data:`COUNTS` has it.
        held_out: rather a scene that training must not see: at least one of its shapes is held out.
    """
    count = rng.choices(list(COUNTS), list(COUNTS.values()))[0] if shapes is None else shapes
    nested = count > 1 and rng.random() < NESTED
    while True:
        chosen = sample_shapes(rng, count, nested=nested)
        if fits(chosen) and trainable(chosen) != held_out:
            return Scene(rng.choice(list(BACKGROUNDS)), chosen)


def complete(wish: Wish, rng: random.Random) -> Scene:
    """A scene that agrees with a wish. What is open is sampled, and never makes a held-out combination.

    Raises:
        ValueError: no scene agrees with the wish.
    """
    if wish.shapes is None:
        return Scene(wish.background or rng.choice(list(BACKGROUNDS)), sample_scene(rng).shapes)
    for _ in range(10_000):
        chosen = tuple(complete_shape(wished, rng) for wished in wish.shapes)
        if fits(chosen):
            return Scene(wish.background or rng.choice(list(BACKGROUNDS)), chosen)
    raise ValueError(f"no scene agrees with {wish}")


def complete_shape(wished: WishedShape, rng: random.Random) -> Shape:
    """A shape that agrees with a wish; held out only where the wish itself says so."""
    pair = (wished.color, wished.kind)
    asked_for = pair in HELD_OUT_PAIRS or (None not in pair and wished.place is not None)
    while True:
        shape = sample_shape(rng)
        shape = Shape(
            wished.kind or shape.kind,
            wished.color or shape.color,
            wished.size or shape.size,
            wished.place or shape.place,
        )
        if asked_for or not held_out(shape):
            return shape
