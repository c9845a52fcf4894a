"""Small real tokenizers of the two kinds that language models have."""

import functools
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "A red circle in the middle. A blue star, on the left!",
    "Ein grünes Dreieck, naïve café, 東京 and Москва.",
    "the cat sat on the mat; the dog and the other one went there\n\nUSER: hello ASSISTANT: hi",
]
SPECIAL = ["<unk>", "<s>", "</s>", "[PAD]"]
CONTROL = ["<im_start>", "<dream_end>", "<dream_start>", "<im_patch>", "<im_end>", "<image>", "<dream>"]
QUERIES = [f"<dream_query_{i}>" for i in range(4)]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def added(tokens: list[str]) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


@functools.cache
def byte_level() -> Tokenizer:
    """Byte-level BPE in the manner of GPT-2: tokens are bytes, and a token may end within a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=added(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(added(CONTROL + QUERIES))
    return tokenizer


@functools.cache
def llama_like() -> Tokenizer:
    """BPE with byte fallback in the manner of Llama: a space before each text, and bytes for unknown characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;!?<>_/[]0123456789", "▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=added(SPECIAL + BYTES),
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in BYTES]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(added(CONTROL + QUERIES))
    return tokenizer


@functools.cache
def sentencepiece_style() -> Tokenizer:
    """As converted from a Llama checkpoint by transformers: spaces by a normalizer, no pre-tokenizer."""
    state = json.loads(llama_like().to_str())
    tokenizer = Tokenizer.from_str(json.dumps(state | {"pre_tokenizer": None}))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


TOKENIZERS = {"byte-level": byte_level, "llama-like": llama_like, "sentencepiece-style": sentencepiece_style}
