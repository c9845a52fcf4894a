"""Token ids to text, as they are sampled."""

import re
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"
MAX_CHARACTER_BYTES = 4  # of UTF-8
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


@lru_cache(maxsize=8)
def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that decoding leaves out. Found once for a tokenizer: it builds a table of them whenever it is asked."""
    return frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a token is, whatever stands beside it.

    Attributes:
        silent: whether it has no text: a special token, or an id without a token.
        byte: whether it is one byte, and waits for others.
        length: characters that it decodes to alone.
    """

    silent: bool
    byte: bool
    length: int


@lru_cache(maxsize=2**16)
def piece_of(tokenizer: Tokenizer, token_id: int) -> Piece:
    """Found once for a token: to ask the tokenizer takes as long as to decode."""
    token = tokenizer.id_to_token(token_id)
    silent = token is None or token_id in special_ids(tokenizer)
    byte = token is not None and BYTE_TOKEN.fullmatch(token) is not None
    return Piece(silent, byte, 0 if silent else len(tokenizer.decode([token_id], skip_special_tokens=True)))


class IncrementalDetokenizer:
    """Decodes one answer, however many engine requests it takes.

    All text given out is together what one ``tokenizer.decode(ids, skip_special_tokens=True)`` gives. To that end text
    waits while a later token may still change it: the bytes of an unfinished character, and with byte fallback a run of
    byte tokens, since its decoder gives up on the whole run when one byte is wrong. The one exception is made by
    :meth:`settle` in a run of byte tokens that is broken *and* goes on over a picture.

    The decoders of ``tokenizers`` look at neighbours (the first space of a text is dropped, for one), so new tokens are
    decoded behind the last ones that gave text, whose own text is then cut off.

    Args:
        tokenizer: only read.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._context_length = 0
        self._pending: list[int] = []

    def feed(self, token_id: int) -> str:
        """The text that is certain now. Special tokens and ids without a token have none."""
        piece = piece_of(self._tokenizer, token_id)
        if piece.silent:
            return ""
        self._pending.append(token_id)
        if piece.byte:
            return ""
        text = self._decode(self._pending)
        if text.endswith(REPLACEMENT):
            return ""
        return self._give(text, len(self._pending))

    def settle(self) -> str:
        """All characters that are complete: what belongs before a picture. The bytes of an unfinished one wait on.

        So does all that waits, when more than one character's bytes stand in the way: such bytes are broken.
        """
        for count in range(len(self._pending), max(0, len(self._pending) - MAX_CHARACTER_BYTES), -1):
            text = self._decode(self._pending[:count])
            if not text.endswith(REPLACEMENT):
                return self._give(text, count)
        return ""

    def finish(self) -> str:
        """The rest: the answer has no further tokens. Unfinished characters become U+FFFD."""
        return self._give(self._decode(self._pending), len(self._pending))

    def _decode(self, ids: list[int]) -> str:
        """Text of ids that follow the context."""
        return self._tokenizer.decode([*self._context, *ids], skip_special_tokens=True)[self._context_length :]

    def _give(self, text: str, count: int) -> str:
        given, self._pending = self._pending[:count], self._pending[count:]
        if count == 1:
            length = piece_of(self._tokenizer, given[0]).length
        else:
            length = len(self._tokenizer.decode(given, skip_special_tokens=True))
        if length:
            self._context, self._context_length = given, length
        else:
            # Without text of its own it would not keep the decoder from dropping the next token's first spaces.
            self._context = [*self._context, *given]
            self._context_length = len(self._tokenizer.decode(self._context, skip_special_tokens=True))
        return text
