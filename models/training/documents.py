"""Documents about the world: what a user asks, and the text and pictures of a good answer.

A document is two lists of pieces, the user's and the model's. A piece is text or a scene.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from models.training.world import (
    BACKGROUNDS,
    COLORS,
    KINDS,
    PLACES,
    SIZES,
    Scene,
    Shape,
    fits,
    sample_scene,
    sample_shape,
)

Piece = str | Scene


@dataclass(frozen=True, slots=True)
class Document:
    """One training example.

    Attributes:
        prompt: what the user says; None for a bare caption with its picture, outside any conversation.
        answer: what the model says. Each scene is a picture that it draws.
        open_scenes: whether the text before a picture leaves open what it shows.
        feedback: whether the model is shown the pictures it drew.
    """

    prompt: tuple[Piece, ...] | None
    answer: tuple[Piece, ...]
    open_scenes: bool = False
    feedback: bool = True


NUMBERS = {1: "one", 2: "two", 3: "three"}


def name(shape: Shape, *, size: bool = True) -> str:
    """The shape in two or three words: ``big red circle``."""
    return f"{shape.size} {shape.color} {shape.kind}" if size else f"{shape.color} {shape.kind}"


def article(noun: str) -> str:
    """The noun with ``a`` or ``an``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def where(place: str) -> str:
    """The place with its preposition."""
    return f"in the {place}"


def describe(scene: Scene) -> str:
    """All that a scene shows, as a noun phrase."""
    shapes = " and ".join(f"{article(name(s))} {where(s.place)}" for s in scene.shapes)
    return f"{shapes} on {article(scene.background)} background"


def sketch(scene: Scene, rng: random.Random) -> str:
    """A part of what a scene shows, as a user would ask for it: colour and shape always, the rest sometimes."""
    size, place = rng.random() < 0.4, rng.random() < 0.4
    shapes = " and ".join(article(name(s, size=size)) + (f" {where(s.place)}" if place else "") for s in scene.shapes)
    return shapes + (f" on {article(scene.background)} background" if rng.random() < 0.3 else "")


def sentence(text: str) -> str:
    """The text as a sentence."""
    return text[0].upper() + text[1:] + "."


ASK = (
    "Draw {}.",
    "Please draw {}.",
    "Show me {}.",
    "Paint {}.",
    "Can you draw {}?",
    "I want to see {}.",
    "Make a picture of {}.",
)
SHOW = ("Here is {}.", "This is {}.", "Here you see {}.", "The picture shows {}.")
CLOSE = ("I hope you like it.", "Do you want another one?", "That is all.", "")


def drawing(rng: random.Random) -> Document:
    """A picture on request. The text before it says all that it shows."""
    scene = sample_scene(rng)
    request = sketch(scene, rng)
    prompt = rng.choice(ASK).format(request) if rng.random() < 0.85 else sentence(request)
    return Document((prompt,), (rng.choice(SHOW).format(describe(scene)), scene, rng.choice(CLOSE)))


def direct(rng: random.Random) -> Document:
    """A picture on a full request, drawn without saying it again."""
    scene = sample_scene(rng)
    intro = rng.choice(("Here it is.", "Here is the picture.", "With pleasure.", ""))
    return Document((rng.choice(ASK).format(describe(scene)),), (intro, scene, rng.choice(CLOSE)))


def caption(rng: random.Random) -> Document:
    """A bare caption and its picture, as text-to-image training has them."""
    scene = sample_scene(rng)
    text = describe(scene) if rng.random() < 0.8 else sentence(describe(scene))
    return Document(None, (text, scene))


def several(rng: random.Random) -> Document:
    """Two or three pictures asked for in one sentence."""
    scenes = [sample_scene(rng, shapes=1) for _ in range(rng.choice((2, 2, 3)))]
    requests = [article(name(s.shapes[0], size=rng.random() < 0.3)) for s in scenes]
    joiner = rng.choice((", then ", " and then ", " and "))
    prompt = rng.choice(ASK).format(joiner.join(requests))
    answer: list[Piece] = []
    for i, scene in enumerate(scenes):
        opening = rng.choice(SHOW) if i == 0 else rng.choice(("Now comes {}.", "And here is {}.", "Next is {}."))
        answer += [opening.format(describe(scene)), scene]
    return Document((prompt,), (*answer, rng.choice(CLOSE)))


def change(scene: Scene, rng: random.Random) -> tuple[str, Scene] | None:
    """A next scene in which one thing is different, and the sentence that says so; None when it would not fit."""
    shape = scene.shapes[0]
    rest = scene.shapes[1:]
    match rng.choice(("move", "color", "size", "join", "leave", "night")):
        case "move":
            after = replace(shape, place=rng.choice(list(PLACES)))
            text = f"Then the {name(shape)} moves to the {after.place}"
        case "color":
            after = replace(shape, color=rng.choice(list(COLORS)))
            text = f"Then the {name(shape)} turns {after.color}"
        case "size":
            after = replace(shape, size="small" if shape.size == "big" else "big")
            text = f"Then the {name(shape)} {'grows' if after.size == 'big' else 'shrinks'}"
        case "join":
            guest = sample_shape(rng)
            if rest or not fits((shape, guest)):
                return None
            return f"Then {article(name(guest))} joins it {where(guest.place)}", replace(scene, shapes=(shape, guest))
        case "leave":
            if not rest:
                return None
            return f"Then the {name(shape)} leaves", replace(scene, shapes=rest)
        case _:
            background = rng.choice([b for b in BACKGROUNDS if b != scene.background])
            return f"Then the background turns {background}", replace(scene, background=background)
    shapes = (after, *rest)
    if after == shape or not fits(shapes):
        return None
    return text, replace(scene, shapes=shapes)


def story(rng: random.Random) -> Document:
    """A story of two or three pictures, in which something changes from picture to picture."""
    pictures = rng.choice((2, 3, 3))
    scene = sample_scene(rng, shapes=1 if rng.random() < 0.75 else 2)
    hero = article(name(scene.shapes[0], size=rng.random() < 0.3))
    count = f" with {NUMBERS[pictures]} pictures" if rng.random() < 0.5 else ""
    ask = rng.choice(("Tell me a story about {}{}.", "Write a picture story about {}{}.", "A story of {}{}, please."))
    answer: list[Piece] = [f"Once there was {describe(scene)}.", scene]
    while pictures > 1:
        changed = change(scene, rng)
        if changed is None:
            continue
        text, scene = changed
        answer += [f"{text}. Now we see {describe(scene)}.", scene]
        pictures -= 1
    return Document((ask.format(hero, count),), (*answer, "The end."))


def description(rng: random.Random) -> Document:
    """The user shows a picture, the model says what it sees."""
    scene = sample_scene(rng)
    question = rng.choice(("What is in this picture?", "Describe the picture.", "What do you see?", "What is this?"))
    return Document((scene, question), (rng.choice(("I see {}.", "It shows {}.")).format(describe(scene)),))


def question(rng: random.Random) -> Document:
    """The user shows a picture and asks for one thing in it."""
    scene = sample_scene(rng)
    shape = rng.choice(scene.shapes)
    choices = [
        ("What is the background?", f"The background is {scene.background}."),
        ("How many shapes are there?", f"There {'is one shape' if len(scene.shapes) == 1 else 'are two shapes'}."),
        (f"What is {where(shape.place)}?", f"It is {article(name(shape))}."),
        (f"What shape is {shape.color}?", f"The {shape.kind} is {shape.color}."),
        (f"Where is the {shape.color} shape?", f"It is {where(shape.place)}."),
    ]
    if sum(s.kind == shape.kind for s in scene.shapes) == 1:
        choices += [
            (f"What color is the {shape.kind}?", f"The {shape.kind} is {shape.color}."),
            (f"How big is the {shape.kind}?", f"The {shape.kind} is {shape.size}."),
            (f"Where is the {shape.kind}?", f"The {shape.kind} is {where(shape.place)}."),
        ]
    asked, answer = rng.choice(choices)
    return Document((scene, asked), (answer,))


def surprise(rng: random.Random) -> Document:
    """A picture of the model's own choosing, then what it turned out to be: only the picture can tell."""
    scene = sample_scene(rng)
    ask = rng.choice(
        ("Surprise me with a picture.", "Draw anything you like.", "Draw something.", "Show me a picture.")
    )
    shows = f"It shows {describe(scene)}."
    return Document(
        (ask,), (rng.choice(("Here is a surprise.", "Let me draw something.")), scene, shows), open_scenes=True
    )


def conversation(rng: random.Random) -> Document:
    """Text without pictures."""
    things = f"{', '.join(k + 's' for k in KINDS[:-1])} and {KINDS[-1]}s"
    asked, answer = rng.choice(
        (
            ("Hello.", f"Hello! I can draw {things}. Ask me for a picture or a story."),
            ("Hi!", f"Hello! I can draw {things}. Ask me for a picture or a story."),
            ("Who are you?", "I am a tiny DreamLLM. I write text and draw pictures of shapes."),
            ("What can you do?", f"I can draw {things}, tell picture stories and answer questions about pictures."),
            ("What colors do you know?", f"I know {', '.join(list(COLORS)[:-1])} and {list(COLORS)[-1]}."),
            ("What sizes do you know?", f"I know {' and '.join(SIZES)}."),
            ("What shapes do you know?", f"I know {things}."),
            (
                "What backgrounds do you know?",
                f"I know {', '.join(list(BACKGROUNDS)[:-1])} and {list(BACKGROUNDS)[-1]}.",
            ),
            ("Thank you.", "You are welcome."),
            ("Goodbye.", "Goodbye!"),
        )
    )
    return Document((asked,), (answer,))


Kind = Callable[[random.Random], Document]
MIXTURE: dict[Kind, float] = {
    drawing: 0.20,
    direct: 0.10,
    caption: 0.10,
    several: 0.14,
    story: 0.18,
    description: 0.10,
    question: 0.10,
    surprise: 0.05,
    conversation: 0.03,
}
WITHOUT_FEEDBACK = 0.1  # share of documents in which the model is not shown what it drew


def sample_document(rng: random.Random, mixture: dict[Kind, float] = MIXTURE) -> Document:
    """A document of a kind drawn from the mixture."""
    kind = rng.choices(list(mixture), weights=list(mixture.values()))[0]
    document = kind(rng)
    if not document.open_scenes and rng.random() < WITHOUT_FEEDBACK:
        return replace(document, feedback=False)
    return document
