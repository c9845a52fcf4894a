"""The synthetic world as a reader."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from models.training.documents import Document, Mixture


@dataclass(frozen=True, slots=True)
class WorldReader:
    """Documents of a mixture, made up as they are needed. They carry scenes; the encoder has them drawn.

    Attributes:
        mixture: which documents.
        seed: decides everything about them.
    """

    mixture: Mixture
    seed: int

    def __call__(self, start: int) -> Iterator[Document]:
        """The documents from a number on."""
        for number in itertools.count(start):
            yield self.mixture.sample(random.Random(f"{self.seed}/{number}"))
