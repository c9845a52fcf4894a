"""Small shards for the tests: pictures of one colour, so that each is known again after coding."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset import TarWriter  # type: ignore[import-untyped]

from models.training.documents import Document, Piece
from models.training.documents.stored import Stored


def picture(shade: int) -> np.ndarray:
    """A picture that is wider than high, all of one gray."""
    return np.full((4, 6, 3), shade, dtype=np.uint8)


def png(shade: int) -> bytes:
    """The same as a file."""
    file = io.BytesIO()
    Image.fromarray(picture(shade)).save(file, "PNG")
    return file.getvalue()


def shade(piece: Piece) -> int:
    """Which picture a piece has."""
    assert not isinstance(piece, str)
    pixels = piece.picture.load() if isinstance(piece.picture, Stored) else np.asarray(piece.picture)
    assert pixels.shape == (4, 6, 3)
    return int(pixels[0, 0, 0])


def write_pairs(path: Path, shades: Sequence[int]) -> Path:
    """A tar shard of pictures and captions that name their shade."""
    with TarWriter(str(path)) as shard:
        for number, value in enumerate(shades):
            shard.write({"__key__": f"{number:06}", "png": png(value), "txt": f"shade {value}"})
    return path


def write_lines(path: Path, records: Sequence[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def texts(document: Document) -> list[str]:
    """The text of a document, piece by piece."""
    return [piece for piece in document.pieces if isinstance(piece, str)]
