"""What users ask for. Training answers these requests; evaluation puts them to the served model."""

import random
from dataclasses import dataclass, replace

from models.training.documents.wording import (
    NUMBERS,
    article,
    by_relation,
    describe,
    phrase,
    sketch,
)
from models.training.world import (
    BACKGROUNDS,
    COLORS,
    HOLLOW,
    KINDS,
    RELATIONS,
    Scene,
    Shape,
    Wish,
    WishedShape,
    related,
    sample_scene,
    trainable,
)

ASK = (
    "Draw {}.",
    "Please draw {}.",
    "Show me {}.",
    "Paint {}.",
    "Can you draw {}?",
    "I want to see {}.",
    "Make a picture of {}.",
)
BY_RELATION_WITH_BACKGROUND = 0.3  # share of the requests by relation that name the background
CHOICES = ("color", "kind", "color and kind", "everything")  # what a request for a surprise leaves open
SURPRISE_ME = ("Surprise me.", "Draw anything you like.", "Show me any picture.")


@dataclass(frozen=True, slots=True)
class Request:
    """A user's words, and the pictures that a good answer has.

    Attributes:
        text: the words.
        wishes: what the words say about each picture, in order.
        scenes: pictures that agree with the wishes: one truth out of many where something is open.
    """

    text: str
    wishes: tuple[Wish, ...]
    scenes: tuple[Scene, ...]


def ask_for_scene(
    rng: random.Random,
    shapes: int | None = None,
    *,
    held_out: bool = False,
    full: bool = False,
    ask: str | None = None,
) -> Request:
    """One picture.

    Args:
        rng: decides everything.
        shapes: as of :func:`sample_scene`.
        held_out: as of :func:`sample_scene`.
        full: whether the request says all that the picture shows, or a part.
        ask: the sentence around what is asked for; by default one of :data:`ASK`.
    """
    scene = sample_scene(rng, shapes, held_out=held_out)
    wish = Wish.of(scene) if full else sketch(scene, rng)
    return Request((ask or rng.choice(ASK)).format(describe(wish)), (wish,), (scene,))


def sample_related(rng: random.Random, relation: str, *, held_out: bool = False) -> tuple[Shape, Shape]:
    """Two shapes in the layout of a relation; with ``held_out``, at least one of them is held out."""
    while True:
        first_color, second_color = rng.sample(list(COLORS), 2)
        second_kind = rng.choice(HOLLOW if relation == "inside" else KINDS)
        pair = related(relation, (first_color, rng.choice(KINDS)), (second_color, second_kind))
        if trainable(pair) != held_out:
            return pair


def ask_by_relation(
    rng: random.Random, relation: str | None = None, *, held_out: bool = False, ask: str | None = None
) -> Request:
    """One picture of two shapes, of which only colour, kind and relation are said. ``ask``: the sentence around it."""
    relation = relation or rng.choice(RELATIONS)
    first, second = sample_related(rng, relation, held_out=held_out)
    scene = Scene(rng.choice(list(BACKGROUNDS)), (first, second))
    background = scene.background if rng.random() < BY_RELATION_WITH_BACKGROUND else None
    text = (ask or rng.choice(ASK)).format(by_relation(relation, first, second, background))
    return Request(text, (replace(Wish.of(scene), background=background),), (scene,))


def ask_for_several(rng: random.Random, pictures: int | None = None) -> Request:
    """Two to four pictures in one sentence."""
    count = pictures or rng.choice((2, 2, 3, 4))
    scenes = tuple(sample_scene(rng, shapes=1) for _ in range(count))
    wishes = tuple(sketch(scene, rng) for scene in scenes)
    series = rng.choice((", then ", " and then ")).join(map(describe, wishes))
    if rng.random() < 0.5:
        return Request(rng.choice(ASK).format(series), wishes, scenes)
    return Request(f"Draw {NUMBERS[count]} pictures: {series}.", wishes, scenes)


def ask_for_story(rng: random.Random, pictures: int | None = None) -> Request:
    """A story of two to four pictures. Only the heroes of the first are said; ``scenes`` holds that one alone."""
    count = pictures or rng.choice((2, 3, 3, 4))
    scene = sample_scene(rng, shapes=rng.choice((1, 1, 1, 2)))
    heroes = Wish(None, tuple(WishedShape(shape.kind, shape.color) for shape in scene.shapes))
    ask = rng.choice(("Tell me a story in {} pictures about {}.", "Write a story in {} pictures about {}."))
    text = ask.format(NUMBERS[count], describe(heroes))
    return Request(text, (heroes, *(Wish(),) * (count - 1)), (scene,))


def ask_for_steps(rng: random.Random, pictures: int | None = None) -> Request:
    """A picture that grows in two to four steps: shapes come one by one, and at last a background."""
    count = pictures or rng.choice((2, 3, 3, 4))
    new_background = count == 4 or rng.random() < 0.3
    final = unnested_scene(rng, count - 1 if new_background else count)
    wished = sketch(final, rng).shapes or ()
    wishes = [Wish(None, wished[: i + 1]) for i in range(len(wished))]
    scenes = [replace(final, shapes=final.shapes[: i + 1]) for i in range(len(wished))]
    steps = [phrase(shape) for shape in wished]
    if new_background:
        background = rng.choice([b for b in BACKGROUNDS if b != final.background])
        wishes.append(Wish(background, wished))
        scenes.append(replace(final, background=background))
        steps.append(f"{article(background)} background")
    series = ", then ".join(steps)
    return Request(f"Draw in {NUMBERS[count]} steps: first {series}.", tuple(wishes), tuple(scenes))


def unnested_scene(rng: random.Random, shapes: int) -> Scene:
    """A scene in which no shape is inside another, so that every part of it can come alone."""
    while True:
        scene = sample_scene(rng, shapes)
        if len({shape.place for shape in scene.shapes}) == shapes:
            return scene


def ask_for_surprise(rng: random.Random, choice: str | None = None) -> Request:
    """One picture of which something is the model's own choice: one of :data:`CHOICES`."""
    choice = choice or rng.choice(CHOICES)
    if choice == "everything":
        return Request(rng.choice(SURPRISE_ME), (Wish(),), (sample_scene(rng),))
    scene = sample_scene(rng, shapes=1)
    wished = (sketch(scene, rng).shapes or ())[0]
    wished = replace(
        wished,
        color=None if "color" in choice else wished.color,
        kind=None if "kind" in choice else wished.kind,
    )
    text = f"{rng.choice(ASK).format(phrase(wished))} Choose the {choice}."
    return Request(text, (Wish(None, (wished,)),), (scene,))
