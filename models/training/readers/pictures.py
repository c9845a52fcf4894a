"""Encoded pictures to pixels."""

from io import BytesIO

import numpy as np
from PIL import Image

from models.training.documents.document import Picture


def decode(encoded: bytes) -> Picture:
    """The picture, uint8 ``[height, width, 3]`` in RGB; what is transparent gets the colour that lies beneath.

    Raises:
        ValueError: it cannot be decoded, or is so large that it may be a decompression bomb.
    """
    try:
        with Image.open(BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"no picture: {error}") from error
