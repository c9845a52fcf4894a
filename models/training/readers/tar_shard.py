"""A WebDataset shard: a tar file in which the files of a sample stand together and share their name up to a dot."""

import json
import random
import re
import tarfile
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from webdataset.tariterators import base_plus_ext  # type: ignore[import-untyped]

from models.training.documents import Document
from models.training.documents.stored import Stored
from models.training.readers.layouts import Layout

PICTURES = ("jpg", "jpeg", "png", "webp")
META = re.compile(r"__[^/]*__($|/)")  # files about the shard itself, which webdataset leaves out too
OPEN_SHARDS = 4  # of which the places of all files are kept


class Extent(NamedTuple):
    """Where a file lies in its shard, in bytes."""

    offset: int
    size: int


Sample = dict[str, Extent]  # by what follows the shared part of the name: ``jpg``, ``json``, ``0.png``


@lru_cache(maxsize=OPEN_SHARDS)
def look_through(path: Path) -> list[Sample]:
    """The samples of a shard, by its headers alone.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no uncompressed tar file, or cut short.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            files = [(member.name, Extent(member.offset_data, member.size)) for member in archive if member.isreg()]
    except tarfile.TarError as error:
        raise ValueError(f"no tar file: {error}") from error
    named = [(*base_plus_ext(name), extent) for name, extent in files if not META.match(name)]
    return [
        {suffix.lower(): extent for _, suffix, extent in group}
        for key, group in groupby(named, key=lambda file: file[0])
        if key is not None
    ]


class TarShard:
    """A shard of samples that have a ``json`` file or a caption in a ``txt`` file, and pictures.

    A record names its pictures by what follows the shared part of their names; one that names none has one picture.

    Attributes:
        path: of the uncompressed tar file.
        layout: what its records mean.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.size: int | None = None

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def __len__(self) -> int:
        if self.size is None:
            self.size = len(look_through(self.path))
        return self.size

    def read(self, index: int, rng: random.Random) -> Document:
        """A sample.

        Raises:
            OSError, ValueError: it is broken.
        """
        sample = look_through(self.path)[index]

        def find(name: str) -> Stored:
            return Stored(self.path, *self.extent(sample, name.lower()))

        return self.layout(self.record(sample), find, rng)

    def record(self, sample: Sample) -> dict[str, Any]:
        """What a sample says about itself."""
        record = dict(json.loads(self.file(sample, "json"))) if "json" in sample else {}
        if "txt" in sample:
            record["caption"] = self.file(sample, "txt").decode()
        pictures = [suffix for suffix in sample if suffix in PICTURES]
        return {**record, "image": pictures[0]} if pictures else record

    def extent(self, sample: Sample, suffix: str) -> Extent:
        """Where one file of a sample lies.

        Raises:
            ValueError: the sample has no such file.
        """
        if suffix not in sample:
            raise ValueError(f"no file .{suffix}")
        return sample[suffix]

    def file(self, sample: Sample, suffix: str) -> bytes:
        """The bytes of one file of a sample."""
        offset, size = self.extent(sample, suffix)
        with self.path.open("rb") as shard:
            shard.seek(offset)
            return shard.read(size)
