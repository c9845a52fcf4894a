"""Dream states that many jobs share: those of the empty prompt, which guide every picture that brings none."""

import asyncio
import logging
from collections import OrderedDict

import torch

from server.pool.queue.consumer import Consumer
from server.pool.wire import WireError, decode_states, states_digest

logger = logging.getLogger(__name__)

KEPT = 4  # servers that run on different devices may differ in the last bit


class StatesUnavailableError(LookupError):
    """Redis does not hold the states that a job refers to."""


class SharedStates:
    """Fetches shared states once and keeps the latest: always the same tensor, so it is projected once, too.

    Args:
        consumer: asks Redis.
        states_shape: ``(num_dream_queries, hidden_size)`` of the checkpoint.
    """

    def __init__(self, consumer: Consumer, states_shape: tuple[int, int]) -> None:
        self._consumer = consumer
        self._states_shape = states_shape
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def get(self, digest: str) -> torch.Tensor:
        """The states ``[num_dream_queries, hidden_size]`` with this digest.

        Raises:
            StatesUnavailableError: Redis does not hold them, or held something else in their place.
            RedisError: it cannot be reached.
        """
        async with self._fetching:
            if digest not in self._kept:
                self._kept[digest] = await self._fetch(digest)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(digest)
            return self._kept[digest]

    async def _fetch(self, digest: str) -> torch.Tensor:
        data = await self._consumer.states(digest)
        if data is None:
            raise StatesUnavailableError(digest)
        try:
            return await asyncio.to_thread(self._decode, data, digest)
        except WireError as error:
            logger.warning("shared states were refused: %s", error)
            await self._consumer.forget_states(digest)
            raise StatesUnavailableError(digest) from error

    def _decode(self, data: bytes, digest: str) -> torch.Tensor:
        states = decode_states(data, self._states_shape)
        if states_digest(states) != digest:
            raise WireError("the shared states are not those that the job refers to")
        return states
