"""Documents by number: epoch after epoch over shards, in an order that a seed decides."""

import itertools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from models.training.documents import Document

logger = logging.getLogger(__name__)

# ``documents(start)`` gives the documents from a number on, without end.
Documents = Callable[[int], Iterator[Document]]

MOST_BROKEN = 1000  # samples in a row, after which something other than the samples must be wrong


class Shard(Protocol):
    """A file of samples that can be read in any order."""

    @property
    def name(self) -> str:
        """Tells it from the others."""

    def __len__(self) -> int:
        """Number of samples, broken ones too; it may have to look through the file.

        Raises:
            OSError, ValueError: the file cannot be read.
        """

    def read(self, index: int, rng: random.Random) -> Document:
        """One sample; ``rng`` decides what its layout leaves open.

        Raises:
            OSError, ValueError: the sample is broken.
        """


class Reader:
    """The documents of shards, without end. In each epoch the shards come in another order, and the samples of each.

    The sample after a broken one takes its place, so that numbers stay what they are; a shard that cannot be read has
    no samples. Both are logged and counted.

    Attributes:
        broken: samples and shards left out so far, each time they came up.
    """

    def __init__(self, shards: Sequence[Shard], seed: int) -> None:
        self.shards = shards
        self.seed = seed
        self.broken = 0

    def __call__(self, start: int) -> Iterator[Document]:
        """The documents from a number on.

        Raises:
            ValueError: there are no samples, or only broken ones.
        """
        owed = 0
        for shard, index, seed in self.positions(start):
            owed += 1
            try:
                document = shard.read(index, random.Random(seed))
            except (OSError, ValueError) as error:
                self.leave_out(f"sample {index} of {shard.name}", error)
                if owed == MOST_BROKEN:
                    raise ValueError(f"{MOST_BROKEN} broken samples in a row, the last in {shard.name}") from error
                continue
            yield from itertools.repeat(document, owed)
            owed = 0

    def positions(self, start: int) -> Iterator[tuple[Shard, int, str]]:
        """Shard, index and seed of the samples from a number on, the same wherever the files lie."""
        ahead = start
        for epoch in itertools.count():
            found = 0
            order = random.Random(f"{self.seed}/{epoch}").sample(range(len(self.shards)), len(self.shards))
            for shard, seed in ((self.shards[number], f"{self.seed}/{epoch}/{number}") for number in order):
                size = self.size(shard)
                found += size
                if ahead >= size:
                    ahead -= size
                    continue
                for index in self.order(size, seed)[ahead:]:
                    yield shard, int(index), f"{seed}/{index}"
                ahead = 0
            if not found:
                raise ValueError(f"no samples in {', '.join(shard.name for shard in self.shards) or 'no shards'}")

    def size(self, shard: Shard) -> int:
        """Number of samples of a shard; 0 where it cannot be read."""
        try:
            return len(shard)
        except (OSError, ValueError) as error:
            self.leave_out(shard.name, error)
            return 0

    @staticmethod
    def order(size: int, seed: str) -> np.ndarray:
        """The samples of a shard in random order."""
        return np.random.default_rng(random.Random(seed).getrandbits(64)).permutation(size)

    def leave_out(self, what: str, error: Exception) -> None:
        """Count and log what is broken."""
        self.broken += 1
        logger.warning("left out %s, the %dth: %s", what, self.broken, error)
