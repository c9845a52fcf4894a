"""The tokenizer of the tiny model: BPE with byte fallback and Llama's spaces, learned on the world's sentences."""

import json
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.dreamllm.chat_template import chat_template
from models.dreamllm.processing import dream_query_tokens
from models.training.documents import INSTRUCTIONS

SPACE = "▁"
TEXT_VOCABULARY = 704  # bytes, letters, and nearly every word of the world whole
BASE_TOKENS = ("<unk>", "<s>", "</s>", "[PAD]")
CONTROL_TOKENS = ("<im_start>", "<dream_end>", "<dream_start>", "<im_patch>", "<im_end>")


def sentences(seed: int, documents: int) -> Iterator[str]:
    """The text of documents, piece by piece."""
    rng = random.Random(seed)
    for _ in range(documents):
        yield from (piece for piece in INSTRUCTIONS.sample(rng).pieces if isinstance(piece, str))
        yield "USER: ASSISTANT:"


def train_tokenizer(seed: int, num_dream_queries: int) -> PreTrainedTokenizerFast:
    """Learn the tokenizer. Ids: base tokens, bytes, letters and merges, control tokens, dream queries, in this order.

    Like Llama's, it marks the start of a text with a space, falls back to bytes, and decodes without the first space.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=False))
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    punctuation = pre_tokenizers.Split(Regex("[.,:;!?]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, punctuation])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT_VOCABULARY,
        special_tokens=[*BASE_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=[*letters, SPACE],
        limit_alphabet=len(letters) + 1,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(seed, 3000), trainer)
    tokenizer = unmark_bytes(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="[PAD]",
        additional_special_tokens=[*CONTROL_TOKENS, *dream_query_tokens(num_dream_queries)],
        chat_template=chat_template(None),
        clean_up_tokenization_spaces=False,
    )


def unmark_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer whose byte tokens are no longer special: a special token would be left out of decoded text."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in BASE_TOKENS]
    return Tokenizer.from_str(json.dumps(state))
