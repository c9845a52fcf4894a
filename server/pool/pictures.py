"""Pictures on the wire: the file, and its pixels where the file has lost some of what was drawn."""

import re
import zlib
from io import BytesIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from models.diffusion.job import ImageFormat, RenderedImage
from server.pool.envelope import Reader, WireError, binary, integer, optional, record

# Files of the lossy formats are only handed on, never decoded.
_LOSSY = {"webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "jpeg": re.compile(rb"\xff\xd8\xff")}


def picture_fields(image: RenderedImage) -> dict[str, object]:
    """The fields of a picture. A PNG brings its pixels by itself."""
    height, width, _ = image.pixels.shape
    pixels = image.pixels.tobytes() if image.format in _LOSSY else None
    return {
        "format": image.format,
        "width": width,
        "height": height,
        "file": image.data,
        "pixels": pixels,
        "crc32": _checksum(image.data, pixels),
    }


def picture(
    image_format: Reader[ImageFormat], width: Reader[int], height: Reader[int], max_pixels: int
) -> Reader[RenderedImage]:
    """A picture of such a format and size. Size and checksum are checked before anything is decoded."""
    read_fields = record(
        {
            "format": image_format,
            "width": width,
            "height": height,
            "file": binary,
            "pixels": optional(binary),
            "crc32": integer(0, 2**32 - 1),
        }
    )

    def read(value: object) -> RenderedImage:
        fields = read_fields(value)
        name, file, pixels = fields["format"], fields["file"], fields["pixels"]
        shape = (fields["height"], fields["width"], 3)
        if shape[0] * shape[1] > max_pixels:
            raise WireError(f"must have at most {max_pixels} pixels")
        if _checksum(file, pixels) != fields["crc32"]:
            raise WireError("crc32 is not that of the file and the pixels")
        decoded = _lossy_pixels(name, file, pixels, shape) if name in _LOSSY else _png_pixels(file, pixels, shape)
        return RenderedImage(file, name, decoded)

    return read


def max_picture_bytes(max_pixels: int) -> int:
    """Bytes that the fields of a picture take at most: raw pixels, and a file that may be twice as big as they are."""
    return (3 + 6) * max_pixels + 4096


def _checksum(file: bytes, pixels: bytes | None) -> int:
    return zlib.crc32(pixels or b"", zlib.crc32(file))


def _lossy_pixels(name: str, file: bytes, pixels: bytes | None, shape: tuple[int, int, int]) -> np.ndarray:
    if not _LOSSY[name].match(file):
        raise WireError(f"file must be a {name} file")
    if pixels is None or len(pixels) != shape[0] * shape[1] * shape[2]:
        raise WireError("pixels must be three bytes for each pixel")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _png_pixels(file: bytes, pixels: bytes | None, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode a PNG whose header says what it must. Pillow inflates no more of it than its size takes."""
    if pixels is not None:
        raise WireError("pixels must be absent beside a PNG")
    try:
        # Image.open would first warn of a size that is refused here anyway.
        with PngImageFile(BytesIO(file)) as png:
            if png.mode != "RGB" or png.size != (shape[1], shape[0]):
                raise WireError("file must be an RGB picture of the width and height beside it")
            return np.frombuffer(png.tobytes(), np.uint8).reshape(shape)
    except WireError:
        raise
    except Exception as error:  # the boundary to Pillow, whose readers raise many kinds on broken files
        raise WireError("file must be a PNG file that can be read") from error
