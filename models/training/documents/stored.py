"""Pictures that are read and decoded only when they are needed: by the process that learns from them, and no other."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


class BrokenPictureError(ValueError):
    """A picture that cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture in a file, or in a stretch of one.

    Attributes:
        path: of the file.
        offset: where the picture begins, in bytes.
        size: of it in bytes; -1 for all up to the end.
    """

    path: Path
    offset: int = 0
    size: int = -1

    def load(self) -> np.ndarray:
        """The picture, uint8 ``[height, width, 3]`` in RGB; what is transparent gets the colour that lies beneath.

        Raises:
            BrokenPictureError: it is missing, cannot be decoded, or is so large that it may be a decompression bomb.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                encoded = file.read(self.size)
            with Image.open(BytesIO(encoded)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BrokenPictureError(f"no picture at byte {self.offset} of {self.path}: {error}") from error
