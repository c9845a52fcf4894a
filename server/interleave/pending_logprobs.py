"""Log probabilities of an answer's tokens, on their way from the engine to the text deltas."""

from collections import deque

from tokenizers import Tokenizer

from server.interleave.events import TokenLogprob
from server.llm.engine import TokenLogprobs
from server.llm.token_bytes import TokenBytes


class PendingLogprobs:
    """Keeps log probabilities until the text of their tokens goes out.

    A token stands where all text before it ends. The delta that goes beyond this place takes it along. If none does,
    because a stop string cuts the text off before it, nobody hears of the token.

    Args:
        tokenizer: of the model; only read.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._bytes = TokenBytes(tokenizer)
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._begun = False

    def add(self, place: int, token_id: int, logprobs: TokenLogprobs) -> None:
        """Add a sampled token.

        Args:
            place: characters of text before it.
            token_id: of the token.
            logprobs: of the token and the alternatives to it.
        """
        bytes_of = self._bytes.within if self._begun else self._bytes.first
        self._begun = True
        top = tuple(token_logprob(bytes_of(alternative), logprob) for alternative, logprob in logprobs.top)
        self._waiting.append((place, token_logprob(bytes_of(token_id), logprobs.logprob, top)))

    def take(self, end: int) -> tuple[TokenLogprob, ...]:
        """The tokens whose places are among the first ``end`` characters, each once."""
        taken = []
        while self._waiting and self._waiting[0][0] < end:
            taken.append(self._waiting.popleft()[1])
        return tuple(taken)


def token_logprob(utf8: bytes, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    """A token of so many bytes, which need not be whole characters."""
    return TokenLogprob(utf8.decode(errors="replace"), utf8, logprob, top)
