"""The converted checkpoint, and the official inputs in its terms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from models.dreamllm import DreamLLMConfig
from server.llm.engine import LLMEngine, Prompt, PromptImage
from server.llm.prompt import PromptBuilder
from tests.parity.diffusion.official import OFFICIAL

CHECKPOINT = OFFICIAL / "checkpoint"
IMAGES = ("image1_80x60.png", "image2_50x90.png")

# The manifest's tolerances: pixels, then logits, hidden states, features, dream states and conditions.
PIXELS = {"atol": 1e-5}
STATES = {"atol": 1e-3, "rtol": 1e-4}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that :class:`~server.llm.prompt.PromptBuilder` reads of an engine."""

    config: DreamLLMConfig
    tokenizer: Tokenizer
    chat_template: str
    eos_token_id: int
    max_model_len: int

    @classmethod
    def load(cls, folder: Path) -> Self:
        config = DreamLLMConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        limit = config.text_config.max_position_embeddings
        return cls(config, tokenizer.backend_tokenizer, tokenizer.chat_template, tokenizer.eos_token_id, limit)

    @property
    def prompts(self) -> PromptBuilder:
        return PromptBuilder(cast(LLMEngine, self))


def picture(index: int) -> Image.Image:
    """A recorded picture; the first is number 0."""
    return Image.open(OFFICIAL / "golden" / IMAGES[index]).convert("RGB")


def our_ids(config: DreamLLMConfig, official_ids: torch.Tensor | Any) -> list[int]:
    """Official ids, whose queries are ``<im_patch>``, with the ids that the queries have here."""
    ids: list[int] = torch.as_tensor(official_ids).flatten().tolist()
    for start in [i for i, token_id in enumerate(ids) if token_id == config.dream_token_id]:
        block = config.dream_block
        assert len(ids[start : start + len(block)]) == len(block)
        ids[start : start + len(block)] = block
    return ids


def prompt(config: DreamLLMConfig, official_ids: torch.Tensor | Any, *pictures: int) -> Prompt:
    """The same as the engine takes it: one placeholder for each picture."""
    ids: list[int] = []
    for token_id in our_ids(config, official_ids):
        if token_id != config.image_token_id or ids[-1] != config.image_token_id:
            ids.append(token_id)
    return Prompt(tuple(ids), tuple(PromptImage.of(picture(index)) for index in pictures))
