"""Pixels to picture files."""

import io

import numpy as np
import pytest
from PIL import Image

from models.diffusion.encoding import encode_image
from models.diffusion.job import ImageFormat


@pytest.fixture
def pixels() -> np.ndarray:
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    return np.stack(np.broadcast_arrays(ramp[None, :], ramp[:32, None], np.uint8(90)), axis=-1)


@pytest.mark.parametrize(("image_format", "error"), [("png", 0), ("webp", 12), ("jpeg", 12)])
def test_a_file_decodes_to_the_pixels_that_went_in(pixels: np.ndarray, image_format: ImageFormat, error: int) -> None:
    image = Image.open(io.BytesIO(encode_image(pixels, image_format)))
    assert image.format == image_format.upper()
    assert image.size == (48, 32)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).max() <= error


def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    for wrong in (pixels.astype(np.float32), pixels[..., :2], pixels[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            encode_image(wrong, "png")


def test_other_formats_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="png, webp, jpeg"):
        encode_image(pixels, "bmp")  # type: ignore[arg-type]
