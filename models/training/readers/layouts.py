"""From the records of data sets to documents, by the rules of the official code.

Source: ``omni/data/builders/builder_dreamllm.py`` and ``omni/data/datasets`` of RunpeiDong/DreamLLM.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.training.documents import Document, Drawn, Piece, Shown, Turn
from models.training.documents.document import Picture
from models.training.documents.stored import Stored

Find = Callable[[str], Stored | Picture]  # the picture of a name; ValueError where a sample has none
Layout = Callable[[dict[str, Any], Find, random.Random], Document]

CREATION = 0.5  # share of the pairs that are drawn rather than described
PLACEHOLDER = re.compile("(<image>|<dream>)")


class Pair(BaseModel):
    """A picture and its caption."""

    image: str
    caption: str = Field(min_length=1)


def pair(record: dict[str, Any], find: Find, rng: random.Random) -> Document:
    """An image-text pair, either way round: text to picture teaches no text, picture to text does."""
    sample = Pair.model_validate(record)
    picture, caption = find(sample.image), sample.caption.strip()
    if rng.random() < CREATION:
        return Document(None, (caption, Drawn(picture)), learned=False)
    return Document(None, (Shown(picture), caption))


class MatchedImage(BaseModel):
    """A picture and the sentence that it goes with."""

    image_name: str
    matched_text_index: int = Field(ge=0)


class Interleaved(BaseModel):
    """A document of MMC4 (Zhu et al. 2023); with an ``instruction`` it is the answer to one."""

    text_list: list[str]
    image_info: list[MatchedImage]
    instruction: str | None = None


def interleaved(record: dict[str, Any], find: Find, rng: random.Random) -> Document:
    """Sentences, with each picture drawn after the sentence that it goes with.

    Raises:
        ValueError: a picture goes with no sentence of the document.
    """
    sample = Interleaved.model_validate(record)
    pieces: list[Piece] = []
    told = 0
    for matched in sorted(sample.image_info, key=lambda image: image.matched_text_index):
        if matched.matched_text_index >= len(sample.text_list):
            raise ValueError(f"{matched.image_name} goes with sentence {matched.matched_text_index}, which is missing")
        pieces.append(joined(sample.text_list[told : matched.matched_text_index + 1]))
        pieces.append(Drawn(find(matched.image_name)))
        told = matched.matched_text_index + 1
    pieces.append(joined(sample.text_list[told:]))
    return Document(None if sample.instruction is None else (sample.instruction.strip(),), tuple(filter(None, pieces)))


def joined(sentences: Sequence[str]) -> str:
    """Sentences as one text."""
    return " ".join(sentence.strip() for sentence in sentences)


class Message(BaseModel):
    """One turn of a conversation.

    Attributes:
        sender: who speaks, in the names of all the data sets of the official code.
        value: the words, with placeholders for pictures.
        modal_info: the pictures of each placeholder, where the conversation has no ``image``.
    """

    sender: Literal["human", "user", "gpt", "assistant", "obj365", "vg"] = Field(alias="from")
    value: str
    modal_info: dict[str, tuple[Literal["image"], list[str]]] = {}

    @property
    def from_user(self) -> bool:
        """Whether the user speaks."""
        return self.sender in ("human", "user")


class Conversation(BaseModel):
    """A conversation as LLaVA has them (Liu et al. 2023), with ``<image>`` and the official code's ``<dream>``.

    Attributes:
        conversations: the turns.
        image: the picture of all placeholders, or those of each in order.
    """

    conversations: list[Message]
    image: str | list[str] | None = None


def conversation(record: dict[str, Any], find: Find, rng: random.Random) -> Document:
    """A conversation about pictures. Its dream tokens are not learned, as in the official code.

    Raises:
        ValueError: user and model don't take turns, or the user dreams, or there are too few pictures.
    """
    sample = Conversation.model_validate(record)
    messages = sample.conversations
    if messages and not messages[0].from_user:
        messages = messages[1:]
    turns = [message.from_user for message in messages]
    if not turns or turns != [True, False] * (len(turns) // 2):
        raise ValueError("user and model don't take turns")
    names = repeat(sample.image) if isinstance(sample.image, str) else iter(sample.image or ())
    spoken = [tuple(pieces_of(message, names, find)) for message in messages]
    *earlier, last = (Turn(*exchange) for exchange in zip(spoken[::2], spoken[1::2], strict=True))
    return Document(last.prompt, last.answer, earlier=tuple(earlier))


def pieces_of(message: Message, names: Iterator[str], find: Find) -> Iterator[Piece]:
    """A message with its pictures in place of their placeholders."""
    own = {placeholder: iter(paths) for placeholder, (_, paths) in message.modal_info.items()}
    for part in map(str.strip, PLACEHOLDER.split(message.value)):
        if not PLACEHOLDER.fullmatch(part):
            if part:
                yield part
            continue
        name = next(own.get(part, names), None)
        if name is None:
            raise ValueError(f"no picture for {part}")
        if part == "<image>":
            yield Shown(find(name))
        elif message.from_user:
            raise ValueError("the user dreams")
        else:
            yield Drawn(find(name), learned=False)


LAYOUTS: dict[str, Layout] = {"pair": pair, "interleaved": interleaved, "conversation": conversation}
