"""Pictures in and out of the answers: arrays, uint8 ``[height, width, 3]``, and the encodings of HTTP."""

import base64
import io

import numpy as np
from PIL import Image


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture in a square of so many pixels, each the mean of those that fall into it."""
    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def decoded(data: bytes) -> np.ndarray:
    """An encoded picture's pixels."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def data_url(picture: np.ndarray) -> str:
    """A picture as requests hold it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
