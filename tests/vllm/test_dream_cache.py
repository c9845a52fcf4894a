"""Dream states are found again by their whole context, and only so."""

import torch
from PIL import Image as PILImages

from server.llm.dream_cache import DreamStateCache, context_key
from server.llm.engine import Prompt, PromptImage

PIXELS = PILImages.new("RGB", (8, 8))
EMPTY = Prompt((1,))


def context(*ids: int, pictures: tuple[str, ...] = ()) -> Prompt:
    return Prompt(ids, tuple(PromptImage(name, PIXELS) for name in pictures))


def test_equal_contexts_have_equal_keys() -> None:
    assert context_key(context(1, 2, pictures=("a",))) == context_key(context(1, 2, pictures=("a",)))


def test_every_token_and_every_picture_id_counts() -> None:
    contexts = [
        context(1, 2),
        context(1, 3),
        context(1, 2, 0),
        context(1, 2, pictures=("a", "b")),
        context(1, 2, pictures=("b", "a")),
        context(1, 2, pictures=("ab", "")),
    ]
    assert len({context_key(c) for c in contexts}) == len(contexts)


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = DreamStateCache(capacity=2, permanent=EMPTY)
    states = [torch.full((1,), float(i)) for i in range(3)]
    cache.put(context(1, 10), states[0])
    cache.put(context(1, 11), states[1])
    assert cache.get(context(1, 10)) is states[0]
    cache.put(context(1, 12), states[2])
    assert cache.get(context(1, 11)) is None
    assert cache.get(context(1, 10)) is states[0]
    assert cache.get(context(1, 12)) is states[2]


def test_the_permanent_entry_is_kept_for_good() -> None:
    cache = DreamStateCache(capacity=1, permanent=EMPTY)
    assert cache.get(EMPTY) is None
    states = torch.zeros(1)
    cache.put(EMPTY, states)
    for token in range(10, 20):
        cache.put(context(1, token), torch.ones(1))
    cache.clear()
    assert cache.get(EMPTY) is states
    assert cache.get(context(1, 19)) is None
