"""Answers without a fault: what the documents of the training world answer to the requests of an evaluation."""

import random

import numpy as np

from models.training.documents.document import Document, Drawn, render
from models.training.documents.pictures import several, told
from models.training.documents.sequences import steps, story
from models.training.documents.wording import article, name, tell
from server.evaluation.comprehension import DescriptionTrial, QuestionTrial
from server.evaluation.creation import SinglePictureTrial
from server.evaluation.feedback import FeedbackTrial
from server.evaluation.interleaving import KINDS, InterleavingTrial
from server.evaluation.trial import Answer, Trial

DOCUMENTS = {"several": several, "story": story, "steps": steps}


def parts(document: Document, seed: int = 0) -> Answer:
    """The answer of a document, its pictures drawn."""
    rendered = render(document, random.Random(seed)).answer
    return Answer(tuple(piece if isinstance(piece, str) else np.asarray(piece.picture) for piece in rendered if piece))


def answered_document(kind: str, seed: int) -> tuple[InterleavingTrial, Answer]:
    """A trial of a kind, and the document of the world that answers it."""
    # A document begins with its request: the same seed gives both.
    trial = InterleavingTrial(kind, KINDS[kind](random.Random(seed)), seed)
    document = DOCUMENTS[kind](random.Random(seed))
    assert document.prompt == (trial.request.text,)
    return trial, parts(document, seed)


def perfect_answer(trial: Trial) -> Answer:
    """The best answer to any trial but one of interleaving, for which see :func:`answered_document`."""
    match trial:
        case QuestionTrial(question=question):
            return Answer((question.answer,))
        case DescriptionTrial(scene=scene):
            return Answer((f"I see {tell(scene)}.",))
        case SinglePictureTrial(request=request):
            (scene,) = request.scenes
            return parts(Document(None, told(scene, "Here is {}.")), trial.seed)
        case FeedbackTrial(request=request):
            (wish,), (scene,) = request.wishes, request.scenes
            after = f"It shows {tell(scene)}." if wish.shapes is None else f"It is {article(name(scene.shapes[0]))}."
            return parts(Document(None, ("Here is a surprise.", Drawn(scene, wish), after)), trial.seed)
    raise TypeError(f"no answer to {type(trial).__name__}")
