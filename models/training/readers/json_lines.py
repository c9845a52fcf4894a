"""A file of JSON records, one to a line, with their pictures in a folder."""

import itertools
import json
import random
from functools import cached_property
from pathlib import Path

import numpy as np

from models.training.documents import Document
from models.training.documents.document import Picture
from models.training.readers.layouts import Layout
from models.training.readers.pictures import decode


class JsonLines:
    """Records by line.

    Attributes:
        path: of the file.
        pictures: folder that names of pictures are relative to.
        layout: what the records mean.
    """

    def __init__(self, path: Path, pictures: Path, layout: Layout) -> None:
        self.path = path
        self.pictures = pictures
        self.layout = layout

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each line that isn't blank begins, in bytes, ``[lines]``."""
        with self.path.open("rb") as lines:
            sizes = [(len(line), not line.isspace()) for line in lines]
        ends = itertools.accumulate((size for size, _ in sizes), initial=0)
        return np.array([end for end, (_, full) in zip(ends, sizes, strict=False) if full], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, index: int, rng: random.Random) -> Document:
        """The record of a line.

        Raises:
            OSError, ValueError: it is broken.
        """
        with self.path.open("rb") as lines:
            lines.seek(int(self.offsets[index]))
            record = json.loads(lines.readline())
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return self.layout(record, self.find, rng)

    def find(self, name: str) -> Picture:
        """A picture of the folder."""
        return decode((self.pictures / name).read_bytes())
