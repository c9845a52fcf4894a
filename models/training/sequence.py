"""Documents to token sequences, in the layout of the official training code.

``… text <dream_start> q0…qN-1 <dream_end> <im_start> p0…pM-1 <im_end> text …``: every text is encoded alone; the text
of answers, ``<dream_start>`` and ``</s>`` are learned, and nothing else carries a label.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from models.dreamllm import DreamLLMConfig, DreamLLMProcessor
from models.training.documents.document import Document, Drawn, Picture, Piece, Shown, render
from models.training.documents.stored import Stored
from models.training.pictures import for_autoencoder, for_tower
from models.training.world import Scene, Wish

IGNORED = -100
LETTERS_PER_TOKEN = 4  # roughly
LENGTHS = 8  # batches are of multiples of this, as kernels for new shapes take time to be made


@dataclass(frozen=True, slots=True)
class Dream:
    """A picture that a sequence asks for.

    Attributes:
        queries: position of the first dream query.
        picture: uint8 ``[height, width, 3]``.
        wish: what the text asks for, where that is known.
    """

    queries: int
    picture: Picture
    wish: Wish | None


@dataclass(slots=True)
class Example:
    """One document as tokens: ids, labels, the pictures in the context, the pictures asked for."""

    ids: list[int]
    labels: list[int]
    images: list[Picture]
    dreams: list[Dream]

    def append(self, ids: Sequence[int], *, learned: bool) -> None:
        """Add tokens, all with a label or all without."""
        self.ids += ids
        self.labels += ids if learned else [IGNORED] * len(ids)


class Encoder:
    """Encodes documents for one model.

    Args:
        config: of the model.
        processor: of the model.
    """

    def __init__(self, config: DreamLLMConfig, processor: DreamLLMProcessor) -> None:
        self.config = config
        self.processor = processor
        self.tokenizer = processor.tokenizer
        patches = [config.image_token_id] * config.num_image_tokens
        self.image_block = [config.image_start_token_id, *patches, config.image_end_token_id]

    def encode(self, document: Document, rng: random.Random) -> Example:
        """One document; ``rng`` draws its pictures, where they are scenes.

        Raises:
            BrokenPictureError: one that is stored cannot be read.
        """
        document = render(document, rng)
        example = Example([], [], [], [])
        for index, turn in enumerate(document.earlier):
            self.ask(example, turn.prompt, first=index == 0)
            self.answer(example, turn.answer, document)
        if document.prompt is None:
            example.append([self.tokenizer.bos_token_id], learned=False)
        else:
            self.ask(example, document.prompt, first=not document.earlier)
        self.answer(example, document.answer, document)
        return example

    def ask(self, example: Example, pieces: tuple[Piece, ...], *, first: bool) -> None:
        """Add a turn of the user, as the chat template writes it: the first one begins the conversation."""
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in pieces]
        # A system message without parts leaves the system prompt out.
        messages = [*([] if first else [{"role": "system", "content": []}]), {"role": "user", "content": content}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text = text if first else text.removeprefix(self.tokenizer.bos_token)
        example.append(self.tokenizer.encode(self.processor.expand(text), add_special_tokens=False), learned=False)
        example.images += [pixels(piece) for piece in pieces if not isinstance(piece, str)]

    def answer(self, example: Example, pieces: tuple[Piece, ...], document: Document) -> None:
        """Add a turn of the model, or all of a bare document, and its end."""
        for piece in pieces:
            match piece:
                case Drawn():
                    example.append([self.config.dream_token_id], learned=document.learned and piece.learned)
                    example.dreams.append(Dream(len(example.ids), pixels(piece), piece.wish))
                    example.append([*self.config.dream_query_token_ids, self.config.dream_end_token_id], learned=False)
                    if document.feedback:
                        self.show(example, pixels(piece))
                case Shown():
                    self.show(example, pixels(piece))
                case text:
                    ids = self.tokenizer.encode(text, add_special_tokens=False) if text else []
                    example.append(ids, learned=document.learned)
        example.append([self.tokenizer.eos_token_id], learned=document.learned)

    def show(self, example: Example, picture: Picture) -> None:
        """Add the patches of a picture."""
        example.images.append(picture)
        example.append(self.image_block, learned=False)

    def rough_length(self, document: Document) -> int:
        """About how many tokens a document has, without encoding it."""
        patches = len(self.image_block)
        drawn = len(self.config.dream_block) + (patches if document.feedback else 0)

        def length(piece: Piece) -> int:
            match piece:
                case Drawn():
                    return drawn
                case Shown():
                    return patches
                case text:
                    return len(text) // LETTERS_PER_TOKEN

        return sum(map(length, document.pieces))


def pixels(piece: Shown | Drawn) -> Picture:
    """The picture of a piece that was rendered.

    Raises:
        TypeError: it was not.
    """
    if isinstance(piece.picture, Scene | Stored):
        raise TypeError(f"a picture that was not rendered: {piece.picture}")
    return piece.picture


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples padded on the right to one length, where causal attention needs no mask.

    Attributes:
        input_ids: ``[batch, length]``.
        labels: ``[batch, length]``, -100 where nothing is learned.
        pixel_values: what the vision tower sees, ``[images, 3, height, width]``; None without pictures.
        rows: row of each dream, ``[dreams]``.
        queries: position of each dream's first query, ``[dreams]``.
        wishes: what each dream asks for, where that is known.
        pictures: of the first dreams, those to denoise: ``[pictures, 3, height, width]`` in -1…1; None for none.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    pixel_values: torch.Tensor | None
    rows: torch.Tensor
    queries: torch.Tensor
    wishes: tuple[Wish | None, ...]
    pictures: torch.Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            labels=self.labels.to(device),
            pixel_values=None if self.pixel_values is None else self.pixel_values.to(device),
            rows=self.rows.to(device),
            queries=self.queries.to(device),
            pictures=None if self.pictures is None else self.pictures.to(device),
        )

    def dream_states(self, hidden: torch.Tensor, num_dream_queries: int) -> torch.Tensor:
        """States of each dream's queries, ``[dreams, queries, hidden]``, out of ``[batch, length, hidden]``."""
        positions = self.queries[:, None] + torch.arange(num_dream_queries, device=hidden.device)
        return hidden[self.rows[:, None], positions]


def collate(
    examples: Sequence[Example], processor: DreamLLMProcessor, denoised: int | None = 0, side: int = 0
) -> Batch:
    """Pad examples and prepare their pictures.

    Args:
        examples: at least one.
        processor: prepares pictures for the vision tower.
        denoised: how many of the pictures asked for are to be denoised, at most; None for all.
        side: of those, in pixels.
    """
    longest = max(len(example.ids) for example in examples)
    length = -(-longest // LENGTHS) * LENGTHS
    pad = processor.tokenizer.pad_token_id

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    images = [image for example in examples for image in example.images]
    dreams = [(row, dream) for row, example in enumerate(examples) for dream in example.dreams]
    pictures = [dream.picture for _, dream in dreams[:denoised]]
    return Batch(
        input_ids=padded([example.ids for example in examples], pad),
        labels=padded([example.labels for example in examples], IGNORED),
        pixel_values=for_tower(images, processor.image_processor) if images else None,
        rows=torch.tensor([row for row, _ in dreams], dtype=torch.long),
        queries=torch.tensor([dream.queries for _, dream in dreams], dtype=torch.long),
        wishes=tuple(dream.wish for _, dream in dreams),
        pictures=for_autoencoder(pictures, side) if pictures else None,
    )
