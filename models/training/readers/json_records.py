"""A file of JSON records, one to a line or all in one list, with their pictures in a folder."""

import json
import random
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from models.training.documents import Document
from models.training.documents.stored import Stored
from models.training.readers.layouts import Layout

CHUNK = 1 << 24  # bytes of a list that are read at once
LONGEST = 1 << 26  # bytes of a record of a list; what goes on for longer is taken to be broken
SPACE = re.compile(r"[ \t\r\n]*")


class JsonRecords:
    """Records by number. Only their places are held in memory, 16 bytes for each, whatever the size of the file.

    Attributes:
        path: of the file. What begins with ``[`` is a list, all else has a record to a line.
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
    def extents(self) -> np.ndarray:
        """Where each record begins and ends, in bytes, ``[records, 2]``.

        Raises:
            OSError, ValueError: the file cannot be read, or it is a list that is broken.
        """
        start = start_of_list(self.path)
        places = line_extents(self.path) if start is None else list_extents(self.path, start)
        return np.fromiter(places, dtype=np.dtype((np.int64, 2)))

    def __len__(self) -> int:
        return len(self.extents)

    def read(self, index: int, rng: random.Random) -> Document:
        """One record.

        Raises:
            OSError, ValueError: it is broken.
        """
        begin, end = map(int, self.extents[index])
        with self.path.open("rb") as file:
            file.seek(begin)
            record = json.loads(file.read(end - begin))
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return self.layout(record, self.find, rng)

    def find(self, name: str) -> Stored:
        """A picture of the folder."""
        return Stored(self.pictures / name)


def start_of_list(path: Path) -> int | None:
    """Where the records of a list begin, in bytes; None where the first sign that isn't blank opens no list."""
    begin = 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.isspace():
                blank = len(line) - len(line.lstrip())
                return begin + blank + 1 if line[blank:].startswith(b"[") else None
            begin += len(line)
    return None


def line_extents(path: Path) -> Iterator[tuple[int, int]]:
    """Begin and end of each line that isn't blank, in bytes."""
    begin = 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.isspace():
                yield begin, begin + len(line)
            begin += len(line)


def list_extents(path: Path, start: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each record of a list, in bytes. The list is read piece by piece.

    Args:
        path: of the file.
        start: where the records begin.

    Raises:
        ValueError: it is broken; the message says at which record.
    """
    decode = json.JSONDecoder().raw_decode
    with path.open("rb") as file:
        file.seek(start)

        def more() -> str:
            # In Latin-1 every byte is a letter of its own, so places in the text are places in the file. What JSON is
            # built of is ASCII, and no byte of a longer UTF-8 letter looks like it.
            return file.read(CHUNK).decode("latin-1")

        text, at, number, sign = "", 0, 0, ","  # the text begins at the byte ``start``
        while sign == ",":
            try:
                begin = after_space(text, at)
                if text[begin] == "]" and not number:
                    at = begin + 1
                    break
                _, end = decode(text, begin)
                at_sign = after_space(text, end)
                sign = text[at_sign]
            except (json.JSONDecodeError, IndexError) as error:
                # It may be that the text ends too early.
                read = more() if len(text) - at < LONGEST else ""
                if not read:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else "the list has no end"
                    raise ValueError(f"record {number} at byte {start + at}: {reason}") from error
                text, start, at = text[at:] + read, start + at, 0
                continue
            if sign not in ",]":
                raise ValueError(f"record {number} at byte {start + begin} is followed by {sign!r}")
            yield start + begin, start + end
            at, number = at_sign + 1, number + 1
        if text[at:].strip() or more().strip():
            raise ValueError(f"something follows the list, at byte {start + at}")


def after_space(text: str, at: int) -> int:
    """The first place from one on that isn't blank."""
    found = SPACE.match(text, at)
    return at if found is None else found.end()
