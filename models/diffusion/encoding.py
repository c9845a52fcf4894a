"""Pixels to picture files."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from models.diffusion.job import ImageFormat

# PNG: the low level costs a few per cent of size and saves most of the time. The others: PIL's scale, near transparent.
_OPTIONS: dict[ImageFormat, dict[str, Any]] = {
    "png": {"compress_level": 3},
    "webp": {"quality": 90, "method": 2},
    "jpeg": {"quality": 92},
}


def encode_image(pixels: np.ndarray, image_format: ImageFormat) -> bytes:
    """Encode uint8 pixels ``[height, width, 3]``.

    Raises:
        ValueError: the pixels have another shape or dtype, or the format is unknown.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [height, width, 3], not {pixels.dtype} {list(pixels.shape)}")
    if image_format not in _OPTIONS:
        raise ValueError(f"format must be one of {', '.join(_OPTIONS)}, not {image_format!r}")
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format, **_OPTIONS[image_format])
    return buffer.getvalue()
