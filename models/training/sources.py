"""Which readers a stage takes its documents from, and how it mixes them."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.training.documents import INSTRUCTIONS, INTERLEAVED, PAIRS, Document
from models.training.readers import Documents, WorldReader, read_json, read_webdataset

MIXTURES = {"pairs": PAIRS, "interleaved": INTERLEAVED, "instructions": INSTRUCTIONS}
CYCLE = 100  # documents over which the shares of sources come true


class Share(BaseModel):
    """A source of documents.

    Attributes:
        share: of all documents, relative to the other sources.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(1.0, gt=0)


class World(Share):
    """The synthetic world: bare pairs of picture and caption, bare documents, or conversations."""

    reader: Literal["world"]
    mixture: Literal["pairs", "interleaved", "instructions"]

    def open(self, work: Path, seed: int) -> Documents:
        """Its documents."""
        return WorldReader(MIXTURES[self.mixture], seed)


class WebDataset(Share):
    """Tar files; see :func:`models.training.readers.read_webdataset`."""

    reader: Literal["webdataset"]
    pattern: str
    layout: Literal["pair", "interleaved"]

    def open(self, work: Path, seed: int) -> Documents:
        """Their documents."""
        return read_webdataset("::".join(str(work / part) for part in self.pattern.split("::")), self.layout, seed)


class Json(Share):
    """Files of JSON records; see :func:`models.training.readers.read_json`."""

    reader: Literal["json"]
    files: tuple[Path, ...] = Field(min_length=1)
    pictures: Path
    layout: Literal["pair", "interleaved", "conversation"]

    def open(self, work: Path, seed: int) -> Documents:
        """Their documents."""
        return read_json([work / file for file in self.files], work / self.pictures, self.layout, seed)


Source = Annotated[World | WebDataset | Json, Field(discriminator="reader")]


def mixed(sources: Sequence[World | WebDataset | Json], seed: int, work: Path) -> Documents:
    """The documents of several sources, each with its share, in an order that repeats.

    Args:
        sources: at least one.
        seed: decides the order.
        work: folder that paths are relative to.

    Raises:
        OSError: a file is missing.
    """
    opened = [source.open(work, seed) for source in sources]
    order = turns([source.share for source in sources])
    random.Random(f"{seed}/sources").shuffle(order)

    def documents(start: int) -> Iterator[Document]:
        cycles, rest = divmod(start, len(order))
        streams = [
            documents(cycles * order.count(index) + order[:rest].count(index)) for index, documents in enumerate(opened)
        ]
        while True:
            yield next(streams[order[start % len(order)]])
            start += 1

    return documents


def turns(shares: Sequence[float]) -> list[int]:
    """Which source each document of a cycle is of: as near to the shares as a cycle allows, and each at least once."""
    counts = [max(1, round(CYCLE * share / sum(shares))) for share in shares]
    return [index for index, count in enumerate(counts) for _ in range(count)]
