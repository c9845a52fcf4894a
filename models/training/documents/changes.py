"""How one scene becomes another: one thing changes."""

import random
from dataclasses import dataclass, replace

from models.training.documents.wording import name, phrase
from models.training.world import (
    BACKGROUNDS,
    COLORS,
    COUNTS,
    PLACES,
    SIZES,
    Scene,
    Shape,
    WishedShape,
    fits,
    sample_shape,
    trainable,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        told: as a story has it: ``the red circle turns blue``.
        asked: as a user asks for it: ``make the red circle blue``.
        scene: what is there afterwards.
    """

    told: str
    asked: str
    scene: Scene


def sample_change(scene: Scene, rng: random.Random) -> Change:
    """A change whose scene belongs to the training world."""
    while True:
        change = rng.choice(CHANGES)(scene, rng.choice(scene.shapes), rng)
        shapes = change.scene.shapes
        if change.scene != scene and shapes and fits(shapes) and trainable(shapes):
            return change


def swap(scene: Scene, before: Shape, *after: Shape) -> Scene:
    """The scene with other shapes in place of one."""
    at = scene.shapes.index(before)
    return replace(scene, shapes=(*scene.shapes[:at], *after, *scene.shapes[at + 1 :]))


def move(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """A shape goes elsewhere."""
    after = replace(shape, place=rng.choice(list(PLACES)))
    way = f"to the {after.place}"
    return Change(f"the {name(shape)} moves {way}", f"move the {name(shape)} {way}", swap(scene, shape, after))


def turn(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """A shape takes another colour."""
    after = replace(shape, color=rng.choice(list(COLORS)))
    return Change(
        f"the {name(shape)} turns {after.color}", f"make the {name(shape)} {after.color}", swap(scene, shape, after)
    )


def resize(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """A shape grows or shrinks."""
    after = replace(shape, size=rng.choice(list(SIZES)))
    return Change(
        f"the {name(shape)} becomes {after.size}", f"make the {name(shape)} {after.size}", swap(scene, shape, after)
    )


def join(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """A new shape comes, unless there are three."""
    if len(scene.shapes) == max(COUNTS):
        return leave(scene, shape, rng)
    guest = sample_shape(rng)
    wished = phrase(WishedShape.of(guest))
    return Change(f"{wished} comes", f"add {wished}", replace(scene, shapes=(*scene.shapes, guest)))


def leave(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """A shape goes away; a new one comes where it was the only one."""
    if len(scene.shapes) == 1:
        return join(scene, shape, rng)
    return Change(f"the {name(shape)} leaves", f"remove the {name(shape)}", swap(scene, shape))


def repaint(scene: Scene, shape: Shape, rng: random.Random) -> Change:
    """The background takes another colour."""
    background = rng.choice(list(BACKGROUNDS))
    return Change(
        f"the background turns {background}",
        f"make the background {background}",
        replace(scene, background=background),
    )


CHANGES = (move, turn, resize, join, leave, repaint)
