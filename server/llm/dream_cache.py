"""Recent dream states, by their context.

A context that dreams a second time finds its queries in vLLM's prefix cache, where they are not computed again and so
cannot be captured: without this cache it would have to be computed as a whole.
"""

from array import array
from collections import OrderedDict
from hashlib import blake2b

import torch

from server.llm.engine import Prompt


def context_key(prompt: Prompt) -> bytes:
    """A digest of the whole context: equal for equal token ids and picture ids."""
    digest = blake2b(array("q", prompt.token_ids).tobytes(), digest_size=32)
    for image in prompt.images:
        # A picture id is any text; hashed to one length, two ids cannot run into each other.
        digest.update(blake2b(image.id.encode(), digest_size=32).digest())
    return digest.digest()


class DreamStateCache:
    """The ``capacity`` most recently used dream states, and for good those of ``permanent``.

    States are shared with their readers: nobody may write to them.
    """

    def __init__(self, capacity: int, permanent: Prompt) -> None:
        self._capacity = capacity
        self._permanent_key = context_key(permanent)
        self._permanent: torch.Tensor | None = None
        self._recent: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, prompt: Prompt) -> torch.Tensor | None:
        key = context_key(prompt)
        if key == self._permanent_key:
            return self._permanent
        if key in self._recent:
            self._recent.move_to_end(key)
        return self._recent.get(key)

    def put(self, prompt: Prompt, states: torch.Tensor) -> None:
        key = context_key(prompt)
        if key == self._permanent_key:
            self._permanent = states
            return
        self._recent[key] = states
        self._recent.move_to_end(key)
        while len(self._recent) > self._capacity:
            self._recent.popitem(last=False)

    def clear(self) -> None:
        """Forget all but the permanent entry."""
        self._recent.clear()
