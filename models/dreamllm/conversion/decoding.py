"""Token ids to text as transformers' slow ``LlamaTokenizer`` (4.35, legacy) does it, by decoders of a fast tokenizer.

Without special tokens, up to two spaces go from the front: the slow tokenizer drops one from its first token, then
sentencepiece drops one more. With special tokens the text falls into runs. Sentencepiece decodes each run and drops its
first space; additional tokens (those of DreamLLM) stand between single spaces; base tokens (``<s>``, ``</s>`` …) stand
without, except that a run that ends at a base token gets a space in front.
"""

from collections.abc import Iterable

from tokenizers import Regex, decoders

# Noncharacters of Unicode, which no text holds. They mark special tokens while tokens are joined.
_BEFORE_ADDITIONAL = "\ufdd0"
_AFTER_ADDITIONAL = "\ufdd1"
_BEFORE_BASE = "\ufdd2"
_AFTER_BASE = "\ufdd3"
_MARKS = f"{_BEFORE_ADDITIONAL}-{_AFTER_BASE}"


def official_decoder(space: str, base: Iterable[str], additional: Iterable[str]) -> decoders.Decoder:
    """The decoder for a vocabulary in which ``space`` stands for a space.

    Args:
        space: as written in the vocabulary.
        base: beginning, end, unknown and padding token.
        additional: all other special tokens.
    """
    return decoders.Sequence(
        [
            *(_replace_token(token, f"{_BEFORE_BASE}{token}{_AFTER_BASE}") for token in base),
            *(_replace_token(token, f"{_BEFORE_ADDITIONAL}{token}{_AFTER_ADDITIONAL}") for token in additional),
            decoders.Replace(space, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            # The first spaces of each run, by what is in front of it.
            _replace(rf"(?:\A|(?<={_AFTER_ADDITIONAL})) {{1,2}}", ""),
            _replace(rf"(?<={_AFTER_BASE}) ", ""),
            # A run that ends at a base token.
            _replace(rf"(?:\A|(?<=[{_AFTER_ADDITIONAL}{_AFTER_BASE}]))(?=[^{_MARKS}]+{_BEFORE_BASE})", " "),
            # One space on either side of an additional token, none at the ends.
            _replace(f"{_AFTER_ADDITIONAL}(?=[^{_BEFORE_ADDITIONAL}])", " "),
            _replace(rf"(?<!\A){_BEFORE_ADDITIONAL}", " "),
            _replace(f"[{_MARKS}]", ""),
        ]
    )


def _replace(pattern: str, content: str) -> decoders.Decoder:
    return decoders.Replace(Regex(pattern), content)


def _replace_token(token: str, content: str) -> decoders.Decoder:
    escaped = "".join(f"\\{letter}" if not letter.isalnum() and letter != "_" else letter for letter in token)
    return _replace(rf"\A{escaped}\z", content)
