"""How the world is put into words, and read back: a small closed vocabulary, one phrase for each thing.

A text says what a :class:`Wish` holds and leaves out what it leaves open, so wishes and texts never disagree.
"""

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from models.training.world import (
    BACKGROUNDS,
    COLORS,
    HOLLOW,
    KINDS,
    LAYOUTS,
    PLACES,
    RELATIONS,
    SIZES,
    Scene,
    Shape,
    Wish,
    WishedShape,
)

WHERE = {
    "center": "in the center",
    "top left": "in the top left",
    "top": "at the top",
    "top right": "in the top right",
    "left": "on the left",
    "right": "on the right",
    "bottom left": "in the bottom left",
    "bottom": "at the bottom",
    "bottom right": "in the bottom right",
}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}


def article(noun: str) -> str:
    """The noun with ``a`` or ``an``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def sentence(text: str) -> str:
    """The text as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def listed(phrases: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def name(shape: Shape) -> str:
    """What tells a shape from the others of its scene: ``red circle``."""
    return f"{shape.color} {shape.kind}"


def noun(wished: WishedShape) -> str:
    """A shape without its place: ``a big red circle``."""
    return article(" ".join(filter(None, (wished.size, wished.color, wished.kind or "shape"))))


def phrase(wished: WishedShape) -> str:
    """A shape with its place: ``a big red circle in the top left``."""
    return noun(wished) if wished.place is None else f"{noun(wished)} {WHERE[wished.place]}"


def nested(first: WishedShape, second: WishedShape) -> bool:
    """Whether a text would say that the first shape is inside the second."""
    sizes = (first.size, second.size) == ("small", "huge")
    return sizes and first.place == second.place is not None and second.kind in HOLLOW


def describe(wish: Wish) -> str:
    """All that a wish asks for, as a noun phrase. Its shapes are not open.

    Raises:
        ValueError: the number of shapes is open.
    """
    if wish.shapes is None:
        raise ValueError("no phrase says that even the number of shapes is open")
    phrases: list[str] = []
    outer = None
    for shape, following in zip(wish.shapes, (*wish.shapes[1:], WishedShape()), strict=True):
        if shape is outer:
            continue
        if nested(shape, following):
            outer = following
            phrases.append(f"{noun(shape)} inside {phrase(following)}")
        else:
            phrases.append(phrase(shape))
    return listed(phrases) + background_phrase(wish)


def background_phrase(wish: Wish) -> str:
    """`` on a white background``, or nothing where it is open."""
    return "" if wish.background is None else f" on {article(wish.background)} background"


def in_reading_order(scene: Scene) -> Scene:
    """The scene with its shapes from top to bottom and from left to right; one inside another comes before it."""

    def order(shape: Shape) -> tuple[float, float, float]:
        x, y = PLACES[shape.place]
        return y, x, SIZES[shape.size]

    return replace(scene, shapes=tuple(sorted(scene.shapes, key=order)))


def tell(scene: Scene) -> str:
    """All that a scene shows, as a noun phrase."""
    return describe(Wish.of(scene))


def sketch(scene: Scene, rng: random.Random) -> Wish:
    """A part of what a scene shows, as a user would ask for it: colour and kind always, the rest sometimes."""
    full = Wish.of(scene)
    shapes = full.shapes or ()
    is_nested = any(nested(*pair) for pair in itertools.pairwise(shapes))
    size, place = rng.random() < 0.5, rng.random() < 0.5
    if is_nested:
        place = size  # one without the other would not say that a shape is inside another
    return Wish(
        full.background if rng.random() < 0.4 else None,
        tuple(replace(s, size=s.size if size else None, place=s.place if place else None) for s in shapes),
    )


def by_relation(relation: str, first: Shape, second: Shape, background: str | None) -> str:
    """Two shapes and the relation between them, as a noun phrase."""
    pair = f"{article(name(first))} {relation} {article(name(second))}"
    return pair + background_phrase(Wish(background))


def _any_of(words: Sequence[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_PLACE_OF = {where: place for place, where in WHERE.items()}
_NOUN = re.compile(
    rf"\ban? (?:({_any_of(list(SIZES))}) )?(?:({_any_of(list(COLORS))}) )?({_any_of(KINDS)}|shape)\b"
    rf"(?: ({_any_of(list(_PLACE_OF))})\b)?"
)
_BACKGROUND = re.compile(rf"\bon an? ({_any_of(list(BACKGROUNDS))}) background\b")
_RELATION = re.compile(rf" ({_any_of(RELATIONS)}) ")


def read(text: str) -> Wish | None:
    """The wish that a text states: what :func:`describe` or :func:`by_relation` said in its last sentence with a shape.

    None where no sentence names a shape.
    """
    for statement in reversed(text.lower().split(".")):
        found = list(_NOUN.finditer(statement))
        if found:
            break
    else:
        return None
    shapes = [
        WishedShape(None if kind == "shape" else kind, color, size, _PLACE_OF.get(where))
        for size, color, kind, where in (match.groups() for match in found)
    ]
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        relation = _RELATION.fullmatch(statement, before.end(), after.start())
        if relation:
            shapes[i], shapes[i + 1] = _laid_out(relation[1], shapes[i], shapes[i + 1])
    background = _BACKGROUND.search(statement)
    return Wish(background[1] if background else None, tuple(shapes))


def _laid_out(relation: str, first: WishedShape, second: WishedShape) -> tuple[WishedShape, WishedShape]:
    """Two shapes with what their relation says about sizes and places."""
    (size, place), (other_size, other_place) = LAYOUTS[relation]
    if relation == "inside":
        place = other_place = second.place or other_place
    return (
        replace(first, size=first.size or size, place=first.place or place),
        replace(second, size=second.size or other_size, place=second.place or other_place),
    )
