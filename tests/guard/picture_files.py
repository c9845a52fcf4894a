"""Picture files of every kind that is read, and files that are made to do harm."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """A picture as a file."""
    target = io.BytesIO()
    image.save(target, format=format, **options)
    return target.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int, content: bytes = b"") -> bytes:
    """A small PNG whose header says that it is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def webp_that_claims(width: int, height: int) -> bytes:
    """A small animation whose canvas is said to be large."""
    file = bytearray(encoded(RED, "WEBP", save_all=True, append_images=[RED.rotate(90), NOISE.resize(RED.size)]))
    at = file.index(b"VP8X") + 12
    file[at : at + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(file)


def gif_that_claims(width: int, height: int) -> bytes:
    """A small GIF whose first frame is said to reach far out of the screen."""
    file = bytearray(encoded(RED, "GIF"))
    at = file.index(b",\x00\x00\x00\x00")
    struct.pack_into("<HH", file, at + 5, width, height)
    return bytes(file)


def jpeg_with_scans(image: Image.Image, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    file = encoded(image, "JPEG", progressive=True)
    last = file[file.rindex(b"\xff\xda") : -2]
    return file[:-2] + last * (scans - file.count(b"\xff\xda")) + file[-2:]


def with_right_checksums(png: bytes) -> bytes:
    """A PNG, the checksums of its chunks put right as far as there are chunks: what is wrong with it lies deeper."""
    fixed, at = bytearray(png), len(PNG_SIGNATURE)
    while at + 12 <= len(fixed):
        length = int.from_bytes(fixed[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def some_exif() -> Image.Exif:
    """What cameras write."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


RED = Image.new("RGB", (8, 8), (255, 0, 0))
NOISE = Image.effect_noise((24, 24), 80).convert("RGB")
PALETTE = NOISE.quantize(16)
ALPHA = NOISE.convert("RGBA")
ALPHA.putalpha(Image.linear_gradient("L").resize(ALPHA.size))
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [RED.resize(NOISE.size), NOISE.rotate(90)]}

FILES = {
    "png": encoded(NOISE, "PNG", exif=some_exif()),
    "png, palette": encoded(PALETTE, "PNG", transparency=3),
    "png, alpha": encoded(ALPHA, "PNG", icc_profile=b"profile" * 9),
    "png, 16 bits": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160), "PNG"),
    "png, bilevel": encoded(NOISE.convert("1"), "PNG"),
    "png, animated": encoded(NOISE, "PNG", **FRAMES, default_image=True),
    "jpeg": encoded(NOISE, "JPEG", exif=some_exif()),
    "jpeg, progressive": encoded(NOISE, "JPEG", progressive=True),
    "jpeg, grey": encoded(NOISE.convert("L"), "JPEG"),
    "jpeg, cmyk": encoded(NOISE.convert("CMYK"), "JPEG"),
    "jpeg, several pictures": encoded(NOISE, "MPO", **FRAMES),
    "webp": encoded(NOISE, "WEBP", exif=some_exif()),
    "webp, lossless, alpha": encoded(ALPHA, "WEBP", lossless=True),
    "webp, animated": encoded(ALPHA, "WEBP", **FRAMES),
    "gif": encoded(PALETTE, "GIF", transparency=3),
    "gif, animated": encoded(PALETTE, "GIF", **FRAMES, disposal=2, comment=b"a comment"),
}
