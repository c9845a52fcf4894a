"""One training example: text and pictures, of the world or of real data.

The one type that every reader yields and that the encoder of sequences takes. Documents of the world carry scenes,
those of files say where their pictures are; :func:`render` draws or loads them: what is encoded holds pictures only.
"""

import random
from dataclasses import dataclass, replace

import numpy as np

from models.training.documents.stored import Stored
from models.training.world import Scene, Wish, draw

Picture = np.ndarray  # uint8 [height, width, 3], RGB


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that the model is shown and does not draw: the layout has ``IMG`` alone."""

    picture: Scene | Stored | Picture


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that the model draws: the layout has ``DREAM``, and ``IMG`` after it where there is feedback.

    Attributes:
        picture: what it draws.
        wish: all that the text before it asks for; None where that is not known, as in real data.
        learned: whether its dream token carries a label, in a document that is learned. The official code learns none
            of conversations.
    """

    picture: Scene | Stored | Picture
    wish: Wish | None = None
    learned: bool = True


Piece = str | Shown | Drawn


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user said, and what the model answered."""

    prompt: tuple[Piece, ...]
    answer: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One training example.

    Attributes:
        prompt: what the user says; None for a bare document, outside any conversation.
        answer: what the model says; of a bare document, all of it. It may hold pictures that are only shown.
        feedback: whether the model is shown the pictures it drew.
        learned: whether the text of the answers, the dream tokens and the end carry labels. The official code learns
            none of a caption with its picture, where only the picture is learned.
        earlier: the turns before, of a conversation of several. Their answers are learned too.
    """

    prompt: tuple[Piece, ...] | None
    answer: tuple[Piece, ...]
    feedback: bool = True
    learned: bool = True
    earlier: tuple[Turn, ...] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of it, in order."""
        before = tuple(piece for turn in self.earlier for piece in (*turn.prompt, *turn.answer))
        return (*before, *(self.prompt or ()), *self.answer)


def render(document: Document, rng: random.Random) -> Document:
    """The document with its pictures: of scenes they are drawn, and ``rng`` moves the shapes a little.

    Raises:
        BrokenPictureError: a stored one cannot be read.
    """

    def rendered(piece: Piece) -> Piece:
        match piece:
            case Shown(picture=Scene() as scene) | Drawn(picture=Scene() as scene):
                return replace(piece, picture=draw(scene, rng))
            case Shown(picture=Stored() as stored) | Drawn(picture=Stored() as stored):
                return replace(piece, picture=stored.load())
        return piece

    def all_rendered(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(map(rendered, pieces))

    return replace(
        document,
        prompt=None if document.prompt is None else all_rendered(document.prompt),
        answer=all_rendered(document.answer),
        earlier=tuple(Turn(all_rendered(turn.prompt), all_rendered(turn.answer)) for turn in document.earlier),
    )
