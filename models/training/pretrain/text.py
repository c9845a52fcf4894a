"""The language model, in place of Vicuna: a small Llama that has read the world's sentences and seen no picture."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.dreamllm import DreamLLMProcessor
from models.training.assembly import dream_config
from models.training.batches import DenoisedShare, DocumentBatches
from models.training.documents import INSTRUCTIONS, INTERLEAVED, Document, Turn
from models.training.documents.document import Piece
from models.training.optimisation import Optimisation
from models.training.pictures import image_processor
from models.training.pretrain.vision import build_vision
from models.training.pretrain.wish_encoder import NUM_TOKENS
from models.training.sequence import IGNORED, Batch, Encoder
from models.training.tokenizer import train_tokenizer
from models.training.trainer import Trainer

NUM_DREAM_QUERIES = NUM_TOKENS
OPTIMISATION = Optimisation(
    steps=600,
    batch_size=64,
    learning_rate=1.5e-3,
    warmup=50,
    betas=(0.9, 0.98),
    weight_decay=0.01,
    mixed_precision="bf16",
    log_every=20,
    save_every=200,
)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> DreamLLMProcessor:
    """A tokenizer and the image processor."""
    vision = build_vision().config
    return DreamLLMProcessor(
        image_processor(vision.image_size),
        tokenizer,
        num_image_tokens=(vision.image_size // vision.patch_size) ** 2,
        num_dream_queries=NUM_DREAM_QUERIES,
        chat_template=tokenizer.chat_template,
    )


def learned_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder. Where there is none it is learned on the world's sentences and written there."""
    if not (folder / "tokenizer.json").is_file():
        train_tokenizer(seed, NUM_DREAM_QUERIES).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def build_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of four layers."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class TextLoss(nn.Module):
    """A Llama and its cross-entropy."""

    def __init__(self, llama: LlamaForCausalLM) -> None:
        super().__init__()
        self.llama = llama

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of the labels."""
        hidden = self.llama.model(input_ids=batch.input_ids).last_hidden_state
        learned = batch.labels[:, 1:] != IGNORED
        logits = self.llama.lm_head(hidden[:, :-1][learned])
        return {"loss": F.cross_entropy(logits.float(), batch.labels[:, 1:][learned])}


def text_alone(document: Document) -> Document:
    """The document without its pictures, all of its text learned."""

    def text(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return tuple(piece for piece in pieces if isinstance(piece, str))

    return replace(
        document,
        prompt=None if document.prompt is None else text(document.prompt),
        answer=text(document.answer),
        earlier=tuple(Turn(text(turn.prompt), text(turn.answer)) for turn in document.earlier),
        learned=True,
    )


def train_text(folder: Path, seed: int, settings: Optimisation = OPTIMISATION, workers: int = 1) -> None:
    """Train the language model and write it beside its tokenizer, in transformers' layout.

    Args:
        folder: of the run; the model goes to ``language`` in it.
        seed: decides everything random.
        settings: how to optimise.
        workers: processes that prepare micro-batches.
    """
    torch.manual_seed(seed)
    processor = build_processor(learned_tokenizer(folder / "language", seed))
    llama = build_llama(processor.tokenizer)
    config = dream_config(llama.config, build_vision().config, processor.tokenizer, NUM_DREAM_QUERIES)

    def documents(start: int) -> Iterator[Document]:
        while True:
            rng = random.Random(f"{seed}/text/{start}")
            yield text_alone(rng.choice((INTERLEAVED, INSTRUCTIONS)).sample(rng))
            start += 1

    batches = DocumentBatches(
        documents,
        Encoder(config, processor),
        batch_size=settings.batch_size,
        seed=seed,
        denoised=DenoisedShare(pictures=0),
        side=0,
        max_length=config.text_config.max_position_embeddings,
        workers=workers,
    )
    Trainer("text", TextLoss(llama), batches, settings, folder / "text", seed).run()
    llama.save_pretrained(folder / "language")
