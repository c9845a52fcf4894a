"""Pictures from outside, made safe: what comes out is RGB, upright, within limits, or an error that says why not.

A thread that decodes cannot be stopped, so what a picture may cost is settled before its pixels are touched: by its
bytes, by the size that its header claims and, in a JPEG, by its scans, each of which may visit every pixel for a few
bytes. No file within the default limits is known that takes a core more than three seconds. Memory goes by the pixels;
but a GIF may take 179 MB, which is Pillow's own limit, before its size is known.
"""

import base64
import binascii
import re
import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from server.llm.conversation import pixels_digest

READERS: tuple[tuple[re.Pattern[bytes], type[ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
)
"""What a file begins with, and what reads it. ``Image.open`` would load all of Pillow's plugins to find WebP among
them, and may hand a JPEG on to one that is not named here."""

MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"})
READABLE = "PNG, JPEG, WebP and GIF"

# Photographs have 1, progressive ones 10. The two bytes that begin a scan may also stand in what a camera hangs on to
# the picture: 160 times in 10 MiB of noise.
MAX_JPEG_SCANS = 250
SCAN = b"\xff\xda"

# Vision towers resize the shorter side: a picture one pixel high would grow to one of millions by hundreds.
MAX_ASPECT_RATIO = 50

# What Pillow's readers raise on files that are broken or made to do harm.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


class ImageInputError(ValueError):
    """A picture that will not be read.

    Attributes:
        code: short and stable, for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class ImageInputLimits:
    """How large a picture from outside may be.

    Attributes:
        max_bytes: encoded.
        max_pixels: width times height, checked before any pixel is decoded.
        max_total_pixels: of all pictures of a request together; None sets no limit.
    """

    max_bytes: int
    max_pixels: int
    max_total_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture from outside.

    Attributes:
        pixels: RGB.
        digest: of the pixels: equal digests mean equal pixels, however they were encoded.
    """

    pixels: Image.Image = field(repr=False)
    digest: str


def data_url_bytes(url: str, max_bytes: int) -> bytes:
    """The content of a data URL that says it is a picture.

    The declared media type must be one that can be read, but need not be the right one of them: the content decides.

    Raises:
        ImageInputError: it is no data URL, or has too many bytes.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        message = "only data URLs and pictures of this server are read; send the picture itself, in base64"
        raise ImageInputError("unsupported_image_url", message)
    header, comma, payload = rest.partition(",")
    media_type, *parameters = header.lower().split(";")
    if not comma or "base64" not in parameters:
        raise ImageInputError("invalid_image_url", "must look like data:image/png;base64,…")
    if media_type not in MEDIA_TYPES:
        raise ImageInputError(
            "unsupported_image_format", f"{media_type or 'text/plain'!r} is not read, only {READABLE}"
        )
    if len(payload) // 4 * 3 > max_bytes + 2:  # the last group of four may hold one byte only
        raise ImageInputError("image_too_large", f"has more than {max_bytes} bytes")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageInputError("invalid_image_url", f"is not base64: {error}") from error


def decode_image(data: bytes, limits: ImageInputLimits, pixels_before: int = 0) -> InputImage:
    """Decode the first frame of a picture. Takes long: not for the event loop.

    Args:
        data: the encoded bytes.
        limits: how large it may be.
        pixels_before: of the request's pictures before this one.

    Raises:
        ImageInputError: it is too large, broken, or no picture.
    """
    if len(data) > limits.max_bytes:
        raise ImageInputError("image_too_large", f"has {len(data)} bytes, more than {limits.max_bytes}")
    reader = reader_of(data)
    if reader is JpegImageFile and data.count(SCAN) > MAX_JPEG_SCANS:
        raise ImageInputError("image_too_large", f"has more than {MAX_JPEG_SCANS} scans")
    try:
        with reader(BytesIO(data)) as image:
            check_size(image.width, image.height, limits, pixels_before)
            image.load()
            pixels = to_rgb(ImageOps.exif_transpose(image))
    except ImageInputError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageInputError("image_too_large", f"has more than {limits.max_pixels} pixels") from error
    except DECODING_ERRORS as error:
        raise ImageInputError("invalid_image", f"is broken: {error}") from error
    return InputImage(pixels, pixels_digest(pixels))


def reader_of(data: bytes) -> type[ImageFile]:
    """What reads a file, by its first bytes.

    Raises:
        ImageInputError: nothing does.
    """
    for beginning, reader in READERS:
        if beginning.match(data):
            return reader
    raise ImageInputError("unsupported_image_format", f"is not a picture that can be read: {READABLE} are")


def check_size(width: int, height: int, limits: ImageInputLimits, pixels_before: int) -> None:
    """Refuse a picture by the size that its header claims.

    Raises:
        ImageInputError: it has too many pixels, or is too long for its width.
    """
    if width * height > limits.max_pixels:
        raise ImageInputError("image_too_large", f"has {width}x{height} pixels, more than {limits.max_pixels}")
    if limits.max_total_pixels is not None and pixels_before + width * height > limits.max_total_pixels:
        total = f"{pixels_before + width * height} pixels, more than {limits.max_total_pixels}"
        raise ImageInputError("image_too_large", f"the request's pictures have with this one {total}")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageInputError(
            "image_too_narrow", f"is {width}x{height}, past an aspect ratio of {MAX_ASPECT_RATIO} to 1"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB: 16 bits scaled to 8, transparency laid over white, palettes and CMYK resolved."""
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255, not scale it.
        grey = np.asarray(image).astype(np.uint32)
        grey += 128
        grey //= 257
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image.convert("RGB")
