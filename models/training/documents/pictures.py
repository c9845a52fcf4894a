"""Documents with pictures that stand for themselves: captions, descriptions, answers to requests."""

import random
from dataclasses import replace

from models.training.documents.document import Document, Drawn, Shown, Turn
from models.training.documents.questions import (
    TOPICS,
    background_of,
    questions_about,
    sample_question,
    statements_about,
)
from models.training.documents.requests import (
    ask_by_relation,
    ask_for_scene,
    ask_for_several,
    ask_for_surprise,
)
from models.training.documents.wording import article, describe, in_reading_order, name, sentence, tell
from models.training.world import Scene, Wish, WishedShape, sample_scene

SHOW = ("Here is {}.", "This is {}.")
NEXT = ("Now comes {}.", "Next is {}.")
CLOSE = ("I hope you like it.", "")
SHAPES_LOOKED_AT = (0.2, 0.45, 0.35)  # shares of one, two and three
MOST_STATEMENTS = 10
FEWEST_QUESTIONS, MOST_QUESTIONS = 6, 14
MOST_OF_A_TOPIC = 3
MOST_RELATIONS = 6  # of which there are most, and which are the hardest: two shapes must be found and compared
HERE_IT_IS = ("Here it is.", "")
DESCRIBE = ("What is in this picture?", "Describe the picture.", "What do you see?")


def caption(rng: random.Random) -> Document:
    """A bare caption and its picture, as text-to-image training has them; the caption may leave things open."""
    if rng.random() < 0.15:
        request = ask_by_relation(rng, ask="{}")
    else:
        request = ask_for_scene(rng, full=rng.random() < 0.6, ask="{}")
    (wish,), (scene,) = request.wishes, request.scenes
    text = request.text if rng.random() < 0.5 else sentence(request.text)
    return Document(None, (text, Drawn(scene, wish)), learned=False)


def description(rng: random.Random) -> Document:
    """A bare picture and its caption."""
    scene = sample_scene(rng)
    return Document(None, (Shown(scene), sentence(tell(in_reading_order(scene)))))


def statements(rng: random.Random) -> Document:
    """A bare picture and one statement after another about it: the densest way to learn what belongs to what."""
    scene = sample_scene(rng, rng.choices((1, 2, 3), SHAPES_LOOKED_AT)[0])
    about = statements_about(scene)
    made = [background_of(scene), *rng.sample(about, min(MOST_STATEMENTS - 1, len(about)))]
    return Document(None, (Shown(scene), " ".join(rng.sample(made, len(made)))))


def looking(rng: random.Random) -> Document:
    """The user shows a picture, the model says what it sees. Most have several shapes, see :func:`interview`."""
    scene = sample_scene(rng, rng.choices((1, 2, 3), SHAPES_LOOKED_AT)[0])
    ask = rng.choice(DESCRIBE)
    return Document((Shown(scene), ask), (f"I see {tell(in_reading_order(scene))}.",))


def question(rng: random.Random) -> Document:
    """The user shows a picture and asks for one thing in it."""
    asked = sample_question(rng)
    return Document((Shown(asked.scene), asked.text), (asked.answer,))


def interview(rng: random.Random) -> Document:
    """The user shows a picture and asks one thing after another, as LLaVA's conversations do (Liu et al. 2023).

    One picture answers many questions, so that a picture that was seen teaches more. Most have several shapes: which
    attribute belongs to which is what is hard.
    """
    scene = sample_scene(rng, rng.choices((1, 2, 3), SHAPES_LOOKED_AT)[0])
    asked = []
    for topic in TOPICS:
        of_topic = questions_about(scene, topic)
        most = MOST_RELATIONS if topic == "relation" else MOST_OF_A_TOPIC
        asked.extend(rng.sample(of_topic, min(most, len(of_topic))))
    first, *others = rng.sample(asked, min(MOST_QUESTIONS, len(asked)))
    turns = [Turn((Shown(scene), first.text), (first.answer,)), *(Turn((q.text,), (q.answer,)) for q in others)]
    *earlier, last = turns[: rng.randint(FEWEST_QUESTIONS, len(turns))]
    return Document(last.prompt, last.answer, earlier=tuple(earlier))


def told(scene: Scene, opening: str) -> tuple[str, Drawn]:
    """A picture after a text that says all that it shows."""
    return opening.format(tell(scene)), Drawn(scene, Wish.of(scene))


def drawing(rng: random.Random) -> Document:
    """A picture on request. The text before it says all that it shows, also what the request left open."""
    request = ask_for_scene(rng)
    (scene,) = request.scenes
    return Document((request.text,), (*told(scene, rng.choice(SHOW)), rng.choice(CLOSE)))


def direct(rng: random.Random) -> Document:
    """A picture on request, drawn without saying it again, for the request leaves nothing open."""
    request = ask_for_scene(rng, full=True)
    (wish,), (scene,) = request.wishes, request.scenes
    return Document((request.text,), (rng.choice(HERE_IT_IS), Drawn(scene, wish), rng.choice(CLOSE)))


def relation(rng: random.Random) -> Document:
    """Two shapes that stand in a relation. The text before the picture says where that puts them."""
    request = ask_by_relation(rng)
    (scene,) = request.scenes
    return Document((request.text,), (*told(scene, rng.choice(SHOW)), rng.choice(CLOSE)))


def several(rng: random.Random) -> Document:
    """Two to four pictures asked for in one sentence."""
    request = ask_for_several(rng)
    openings = (rng.choice(SHOW), *(rng.choice(NEXT) for _ in request.scenes[1:]))
    pieces = [piece for pair in zip(request.scenes, openings, strict=True) for piece in told(*pair)]
    return Document((request.text,), (*pieces, rng.choice(CLOSE)))


def surprise(rng: random.Random) -> Document:
    """A picture in which something is the model's own choice, then what it turned out to be: only the picture tells.

    Sizes and places are in the text before the picture, also where the request leaves them open. A shape that may be
    anywhere is begun in two places, and there is nothing of it in the end.
    """
    request = ask_for_surprise(rng)
    (wish,), (scene,) = request.wishes, request.scenes
    if wish.shapes is None:
        wish = Wish(scene.background, tuple(WishedShape(size=s.size, place=s.place) for s in scene.shapes))
        before, after = f"Here is a surprise: {describe(wish)}.", f"It shows {tell(scene)}."
    else:
        (wished,), (shape,) = wish.shapes, scene.shapes
        wish = Wish(None, (replace(wished, size=shape.size, place=shape.place),))
        mine = " and ".join(attribute for attribute in ("color", "kind") if getattr(wished, attribute) is None)
        before, after = f"Here is {describe(wish)}. I choose the {mine}.", f"It is {article(name(shape))}."
    return Document((request.text,), (before, Drawn(scene, wish), after))
