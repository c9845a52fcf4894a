"""Documents in which pictures follow from those before: stories, drawings in steps, dialogues about a drawing."""

import random

from models.training.documents.changes import sample_change
from models.training.documents.document import Document, Drawn, Piece, Turn
from models.training.documents.pictures import SHOW, told
from models.training.documents.questions import TOPICS, questions_about
from models.training.documents.requests import ask_for_scene, ask_for_steps, ask_for_story
from models.training.documents.wording import phrase, sentence
from models.training.world import Wish, WishedShape


def story(rng: random.Random) -> Document:
    """A story of two to four pictures. Something changes from each picture to the next."""
    request = ask_for_story(rng)
    (scene,) = request.scenes
    answer: list[Piece] = [*told(scene, "Once there was {}.")]
    for _ in request.wishes[1:]:
        change = sample_change(scene, rng)
        scene = change.scene
        answer += told(scene, f"{sentence(f'then {change.told}')} Now we see {{}}.")
    return Document((request.text,), (*answer, "The end."))


def steps(rng: random.Random) -> Document:
    """A drawing in two to four steps, with a picture after each. A step says what is new; the rest stays."""
    request = ask_for_steps(rng)
    first, *others = request.scenes
    answer: list[Piece] = [*told(first, "Step 1: {}.")]
    before = first
    for number, scene in enumerate(others, start=2):
        if scene.background != before.background:
            new = f"make the background {scene.background}"
        else:
            new = f"add {phrase(WishedShape.of(scene.shapes[-1]))}"
        answer += f"Step {number}: {new}.", Drawn(scene, Wish.of(scene))
        before = scene
    return Document((request.text,), (*answer, "Done."))


def dialogue(rng: random.Random) -> Document:
    """A picture on request; then the user asks for a change of it, or about it."""
    request = ask_for_scene(rng)
    (scene,) = request.scenes
    earlier = (Turn((request.text,), told(scene, rng.choice(SHOW))),)
    if rng.random() < 0.5:
        question = rng.choice([question for topic in TOPICS for question in questions_about(scene, topic)])
        return Document((question.text,), (question.answer,), earlier=earlier)
    change = sample_change(scene, rng)
    return Document((sentence(change.asked),), told(change.scene, rng.choice(SHOW)), earlier=earlier)
