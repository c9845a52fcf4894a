"""Pictures that are broken, not what was asked for, or made to do harm are refused."""

import struct
import tracemalloc
import warnings
import zlib

import msgpack
import pytest

from models.diffusion.job import ImageFormat
from server.pool.wire import (
    WIRE_VERSION,
    WireError,
    decode_image,
    decode_message,
    encode_image,
)
from tests.pool.wire_examples import (
    EXAMPLES,
    HEIGHT,
    LIMITS,
    WIDTH,
    fields_of,
    noise,
    with_fields,
)


def with_picture(image_format: ImageFormat, **changes: object) -> bytes:
    """A picture with other fields and the checksum that goes with them."""
    fields = {**fields_of(encode_image(noise(image_format))), **changes}
    if "crc32" not in changes:
        fields["crc32"] = zlib.crc32(fields["pixels"] or b"", zlib.crc32(fields["file"]))
    data: bytes = msgpack.packb([WIRE_VERSION, "image", fields])
    return data


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


PIXELS = chunk(b"IDAT", zlib.compress((bytes(1 + 3 * WIDTH)) * HEIGHT))
BOMB = chunk(b"IDAT", zlib.compress(bytes(20_000_000)))
TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000)))
FRAMES = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
    b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 2**30, 2**30, 1, 1, 0, 0)
)


UNLIKE = "file must be an RGB picture of the width and height beside it"
UNREADABLE = "file must be a PNG file that can be read"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        pytest.param(png(header(20_000, 20_000), PIXELS), UNLIKE, id="many pixels"),
        pytest.param(png(header(2**31 - 1, 2**31 - 1), PIXELS), UNLIKE, id="most pixels"),
        pytest.param(png(header(WIDTH, HEIGHT), header(12_000, 9_000), PIXELS), UNLIKE, id="two headers"),
        pytest.param(png(header(WIDTH + 1, HEIGHT), PIXELS), UNLIKE, id="another size"),
        pytest.param(png(header(HEIGHT, WIDTH), PIXELS), UNLIKE, id="lying"),
        pytest.param(png(header(WIDTH, HEIGHT, colour=0), PIXELS), UNLIKE, id="grey"),
        pytest.param(png(header(WIDTH, HEIGHT, colour=6), PIXELS), UNLIKE, id="transparent"),
        pytest.param(png(header(WIDTH, HEIGHT, depth=16, colour=0), PIXELS), UNLIKE, id="16 bits"),
        pytest.param(png(header(0, 0), PIXELS), UNREADABLE, id="no size"),
        pytest.param(png(header(WIDTH, HEIGHT), TEXT_BOMB, PIXELS), UNREADABLE, id="text that inflates"),
        pytest.param(png(header(WIDTH, HEIGHT), FRAMES, PIXELS), UNREADABLE, id="a frame elsewhere"),
        pytest.param(png(header(WIDTH, HEIGHT)), UNREADABLE, id="no pixels"),
        pytest.param(png(PIXELS), UNREADABLE, id="no header"),
        pytest.param(png(header(WIDTH, HEIGHT), chunk(b"IDAT", b"not deflate")), UNREADABLE, id="not deflate"),
        pytest.param(png(header(WIDTH, HEIGHT), PIXELS)[:-20], UNREADABLE, id="cut"),
        pytest.param(noise("jpeg").data, UNREADABLE, id="jpeg"),
        pytest.param(b"", UNREADABLE, id="empty"),
    ],
)
def test_a_png_that_is_not_what_it_must_be_is_refused(file: bytes, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WireError, match=reason):
            decode_image(with_picture("png", file=file), width=WIDTH, height=HEIGHT, format="png")


def test_a_png_is_inflated_no_further_than_its_pixels() -> None:
    data = with_picture("png", width=64, height=64, file=png(header(64, 64), BOMB))
    tracemalloc.start()
    try:
        image = decode_image(data, width=64, height=64, format="png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not image.pixels.any()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("image_format", "changes", "reason"),
    [
        ("png", {"crc32": 1}, "crc32 is not that of the file and the pixels"),
        ("webp", {"crc32": 1}, "crc32 is not that of the file and the pixels"),
        ("png", {"format": "webp"}, "format must be png"),
        ("png", {"width": WIDTH + 8}, "width must be 24"),
        ("png", {"height": 2**63}, "height must be 16"),
        ("png", {"width": float(WIDTH)}, "width must be 24"),
        ("png", {"pixels": bytes(3 * WIDTH * HEIGHT)}, "pixels must be absent beside a PNG"),
        ("webp", {"pixels": None}, "pixels must be three bytes for each pixel"),
        ("webp", {"pixels": bytes(3 * WIDTH * HEIGHT - 1)}, "pixels must be three bytes for each pixel"),
        ("jpeg", {"pixels": b""}, "pixels must be three bytes for each pixel"),
        ("webp", {"file": noise("jpeg").data}, "file must be a webp file"),
        ("jpeg", {"file": noise("png").data}, "file must be a jpeg file"),
        ("jpeg", {"file": b""}, "file must be a jpeg file"),
        ("jpeg", {"file": "text", "crc32": 0}, "file must be bytes"),
    ],
)
def test_a_picture_that_is_not_what_was_asked_for_is_refused(
    image_format: ImageFormat, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(WireError, match=reason):
        decode_image(with_picture(image_format, **changes), width=WIDTH, height=HEIGHT, format=image_format)


def test_a_preview_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    fields = {**fields_of(encode_image(noise("png"))), "width": 4096, "height": 4096}
    data = with_fields(EXAMPLES["preview"].data, image=fields)
    with pytest.raises(WireError, match="preview image must have at most 4096 pixels"):
        decode_message(data, LIMITS.max_pixels)
