"""A clock whose ticks are tokens: one every twentieth of a second, whose text tells which tick it is."""

from tokenizers import Tokenizer

from server.settings import DEFAULT_CHECKPOINT

TICKS_PER_S = 20
PERIOD_S = 1 / TICKS_PER_S
SPACE = "▁"


def load_tokenizer() -> Tokenizer:
    """Of the embedded checkpoint: a real one, of Llama's kind."""
    return Tokenizer.from_file(str(DEFAULT_CHECKPOINT / "tokenizer.json"))


def words(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of tokens that are a word with a space before it, by that word, in the order of the ticks."""
    ids = {token.removeprefix(SPACE): id for token, id in tokenizer.get_vocab().items() if token.startswith(SPACE)}
    return {word: ids[word] for word in sorted(ids) if word.isascii() and word.isalpha()}


def latest_tick(now: float) -> int:
    """The tick that was due latest at a time of ``time.monotonic()``, which is one clock for all processes."""
    return int(now * TICKS_PER_S)
