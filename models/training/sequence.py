"""Documents to token sequences, in the layout of the official training code.

``… text <dream_start> q0…qN-1 <dream_end> <im_start> p0…pM-1 <im_end> text …``: every text is encoded alone; the model
learns the text of answers, ``<dream_start>`` and ``</s>``, and nothing else carries a label.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.dreamllm import DreamLLMConfig, DreamLLMProcessor
from models.training.documents import Document, Piece
from models.training.world import Scene, draw

IGNORED = -100
CASUAL = 0.25  # share of prompts written without capitals and full stops


@dataclass(frozen=True, slots=True)
class Dream:
    """A picture that a sequence asks for.

    Attributes:
        queries: position of the first dream query.
        scene: what it shows.
        picture: the drawing, uint8 ``[64, 64, 3]``.
        open: whether the text before it leaves open what it shows.
    """

    queries: int
    scene: Scene
    picture: np.ndarray
    open: bool


@dataclass(slots=True)
class Example:
    """One document as tokens: ids, labels, the pictures in the context, the pictures asked for."""

    ids: list[int]
    labels: list[int]
    images: list[np.ndarray]
    scenes: list[Scene]
    dreams: list[Dream]

    def append(self, ids: Sequence[int], *, learned: bool) -> None:
        """Add tokens, all with a label or all without."""
        self.ids += ids
        self.labels += ids if learned else [IGNORED] * len(ids)


class Encoder:
    """Encodes documents for one model."""

    def __init__(self, config: DreamLLMConfig, processor: DreamLLMProcessor) -> None:
        self.config = config
        self.processor = processor
        self.tokenizer = processor.tokenizer
        patches = [config.image_token_id] * config.num_image_tokens
        self.image_block = [config.image_start_token_id, *patches, config.image_end_token_id]

    def encode(self, document: Document, rng: random.Random) -> Example:
        """One document; ``rng`` draws its pictures."""
        example = Example([], [], [], [], [])
        if document.prompt is None:
            example.append([self.tokenizer.bos_token_id], learned=False)
        else:
            self.prompt(example, document.prompt, rng)
        for piece in document.answer:
            if isinstance(piece, Scene):
                self.dream(example, piece, document, rng)
            elif piece:
                ids = self.tokenizer.encode(piece, add_special_tokens=False)
                example.append(ids, learned=document.prompt is not None)
        example.append([self.tokenizer.eos_token_id], learned=document.prompt is not None)
        return example

    def prompt(self, example: Example, pieces: tuple[Piece, ...], rng: random.Random) -> None:
        """Add the user's turn, as the chat template writes it."""
        casual = rng.random() < CASUAL
        content = []
        for piece in pieces:
            if isinstance(piece, Scene):
                content.append({"type": "image"})
                self.show(example, piece, draw(piece, rng))
            else:
                content.append({"type": "text", "text": piece.lower().rstrip(".") if casual else piece})
        messages = [{"role": "user", "content": content}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        example.append(self.tokenizer.encode(self.processor.expand(text), add_special_tokens=False), learned=False)

    def dream(self, example: Example, scene: Scene, document: Document, rng: random.Random) -> None:
        """Add a picture that the model draws, and the same picture shown to it."""
        picture = draw(scene, rng)
        example.append([self.config.dream_token_id], learned=document.prompt is not None)
        example.dreams.append(Dream(len(example.ids), scene, picture, document.open_scenes))
        example.append([*self.config.dream_query_token_ids, self.config.dream_end_token_id], learned=False)
        if document.feedback:
            self.show(example, scene, picture)
            example.append(self.image_block, learned=False)

    def show(self, example: Example, scene: Scene, picture: np.ndarray) -> None:
        """Put a picture before the model's eyes."""
        example.images.append(picture)
        example.scenes.append(scene)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples padded to one length.

    Attributes:
        input_ids: ``[batch, length]``.
        attention_mask: ``[batch, length]``, 0 over padding.
        labels: ``[batch, length]``, -100 where nothing is learned.
        pixel_values: ``[images, 3, height, width]``, or None without pictures.
        scenes: of the pictures in ``pixel_values``.
        rows: row of each dream.
        dreams: the pictures asked for.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    pixel_values: torch.Tensor | None
    scenes: list[Scene]
    rows: list[int]
    dreams: list[Dream]

    def dream_states(self, hidden: torch.Tensor, num_dream_queries: int) -> torch.Tensor:
        """States of each dream's queries, ``[dreams, queries, hidden]``, out of ``[batch, length, hidden]``."""
        starts = torch.tensor([dream.queries for dream in self.dreams], device=hidden.device)
        rows = torch.tensor(self.rows, device=hidden.device)
        positions = starts[:, None] + torch.arange(num_dream_queries, device=hidden.device)
        return hidden[rows[:, None], positions]


def collate(examples: list[Example], processor: DreamLLMProcessor, device: torch.device) -> Batch:
    """Pad on the right and normalise the pictures as the processor does for the model."""
    length = max(len(e.ids) for e in examples)
    pad = processor.tokenizer.pad_token_id

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows], device=device)

    images = [image for e in examples for image in e.images]
    pixels = normalise(images, processor).to(device) if images else None
    return Batch(
        input_ids=padded([e.ids for e in examples], pad),
        attention_mask=padded([[1] * len(e.ids) for e in examples], 0),
        labels=padded([e.labels for e in examples], IGNORED),
        pixel_values=pixels,
        scenes=[scene for e in examples for scene in e.scenes],
        rows=[row for row, e in enumerate(examples) for _ in e.dreams],
        dreams=[dream for e in examples for dream in e.dreams],
    )


def normalise(images: list[np.ndarray], processor: DreamLLMProcessor) -> torch.Tensor:
    """Pictures of the tower's own size to ``pixel_values``: what the image processor gives, without its Python cost."""
    settings = processor.image_processor
    mean, deviation = torch.tensor(settings.image_mean), torch.tensor(settings.image_std)
    pixels = torch.from_numpy(np.stack(images)).float() / 255
    return ((pixels - mean) / deviation).permute(0, 3, 1, 2).contiguous()
