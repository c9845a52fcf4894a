"""Which documents a stage of training sees, and in which form: bare or as a conversation, in tidy or casual writing."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from models.training.documents.conversation import conversation
from models.training.documents.document import Document, Drawn, Piece, Turn
from models.training.documents.pictures import (
    caption,
    description,
    direct,
    drawing,
    interview,
    looking,
    question,
    relation,
    several,
    statements,
    surprise,
)
from models.training.documents.sequences import dialogue, steps, story

Kind = Callable[[random.Random], Document]

WITHOUT_PICTURES = 0.02  # share of documents that run out of pictures; more would teach the model to forget them
WITHOUT_FEEDBACK = 0.1  # share of documents in which the model is not shown what it drew
CASUAL = 0.25  # share of conversations whose user writes without capitals and full stops


@dataclass(frozen=True, slots=True)
class Mixture:
    """A distribution of documents.

    Attributes:
        shares: of each kind; they need not sum to one.
        bare: whether documents come as text and pictures alone, without who says what.
    """

    shares: dict[Kind, float]
    bare: bool

    def sample(self, rng: random.Random) -> Document:
        """A document."""
        kind = rng.choices(list(self.shares), list(self.shares.values()))[0]
        document = kind(rng)
        if kind is not surprise and rng.random() < WITHOUT_FEEDBACK:
            document = replace(document, feedback=False)
        if kind is not surprise and document.learned and rng.random() < WITHOUT_PICTURES:
            document = spent(document, rng)
        if self.bare:
            return bare(document)
        return casual(document) if rng.random() < CASUAL else document


def bare(document: Document) -> Document:
    """The document outside any conversation: its text and pictures, one after the other."""
    return replace(document, prompt=None, answer=joined(document.pieces), earlier=())


def spent(document: Document, rng: random.Random) -> Document:
    """The document without the last picture that its last answer draws, or the last several: its text goes on.

    A server may forbid further pictures, by leaving the dream token out of what is sampled. What is sampled then is
    what these few documents have in its place. One whose answer is nothing but pictures stays as it is.
    """
    drawn = [index for index, piece in enumerate(document.answer) if isinstance(piece, Drawn)]
    left_out = drawn[rng.randrange(len(drawn)) :] if drawn else []
    kept = [piece for index, piece in enumerate(document.answer) if index not in left_out]
    return replace(document, answer=joined(kept)) if left_out and kept else document


def joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces with texts that follow each other as one."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        if isinstance(last, str) and isinstance(piece, str):
            whole[-1] = f"{last} {piece}".rstrip()
        elif piece:
            whole.append(piece)
    return tuple(whole)


def casual(document: Document) -> Document:
    """The document with the user's words in small letters."""

    def said(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(piece.lower().rstrip(".") if isinstance(piece, str) else piece for piece in pieces)

    return replace(
        document,
        prompt=None if document.prompt is None else said(document.prompt),
        earlier=tuple(Turn(said(turn.prompt), turn.answer) for turn in document.earlier),
    )


# Alignment: pictures and captions alone, both ways.
PAIRS = Mixture({caption: 0.7, description: 0.3}, bare=True)

_DIALOGUES: dict[Kind, float] = {
    looking: 0.10,
    question: 0.06,
    interview: 0.30,
    drawing: 0.15,
    direct: 0.08,
    relation: 0.08,
    several: 0.08,
    story: 0.09,
    steps: 0.08,
    surprise: 0.08,
    dialogue: 0.04,
    conversation: 0.02,
}
# Interleaved pre-training: documents of every kind, bare. Instructions: the same as conversations, with more interviews
# in the place of the statements, and more of what has several pictures or leaves something to the model.
INTERLEAVED = Mixture({**_DIALOGUES, caption: 0.10, description: 0.10, statements: 1.60}, bare=True)
INSTRUCTIONS = Mixture(
    {**_DIALOGUES, interview: 0.90, several: 0.12, story: 0.11, steps: 0.12, surprise: 0.12}, bare=False
)
