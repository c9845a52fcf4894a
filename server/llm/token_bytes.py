"""The bytes of single tokens, for those who want to know what stands behind a log probability."""

from tokenizers import Tokenizer

from server.llm.detokenizer import BYTE_TOKEN, REPLACEMENT

SPACE_OF_BYTE_LEVEL = "Ġ"


class TokenBytes:
    """What single tokens add to the bytes of a text. The tokens of a text, one after the other, add all of it.

    A control token, which has no place in a text, gives its name.

    Args:
        tokenizer: only read.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {i: token.content.encode() for i, token in tokenizer.get_added_tokens_decoder().items()}
        decoder = tokenizer.decoder
        byte_level = decoder is not None and decoder.decode([SPACE_OF_BYTE_LEVEL]) == " "
        self._byte_of = byte_level_alphabet() if byte_level else None
        self._known: dict[int, bytes] = {}

    def within(self, token_id: int) -> bytes:
        """The bytes of a token behind another one. None for an id that the tokenizer does not know."""
        if token_id not in self._known:
            self._known[token_id] = self._find(token_id)
        return self._known[token_id]

    def first(self, token_id: int) -> bytes:
        """The bytes of the first token of a text, where decoders of Llama's kind leave out one space."""
        alone = self._tokenizer.decode([token_id])
        if token_id in self._added or REPLACEMENT in alone:
            return self.within(token_id)
        return alone.encode()

    def _find(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added:
            return self._added[token_id]
        if BYTE_TOKEN.fullmatch(token):
            return bytes([int(token[3:5], 16)])
        if self._byte_of is not None:
            return bytes(self._byte_of[letter] for letter in token)
        alone = self._tokenizer.decode([token_id])
        return self._tokenizer.decode([token_id, token_id])[len(alone) :].encode()


def byte_level_alphabet() -> dict[str, int]:
    """The letters for bytes of GPT-2's byte-level BPE, https://github.com/openai/gpt-2/blob/master/src/encoder.py.

    Printable characters of Latin-1 stand for themselves, the others in their order for U+0100 and what follows.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
