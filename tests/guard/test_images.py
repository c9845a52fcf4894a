"""Pictures from outside: read right, or refused with a reason, and nothing else."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from server.guard.images import (
    ImageInputError,
    ImageInputLimits,
    decode_image,
    load_image_url,
)

LIMITS = ImageInputLimits(max_bytes=100_000, max_pixels=10_000)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format=format, **options)
    return target.getvalue()


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def colour(data: bytes) -> tuple[int, ...]:
    """Of the pixel in the middle."""
    pixels = decode_image(data, LIMITS).pixels
    assert pixels.mode == "RGB"
    return tuple(pixels.getpixel((pixels.width // 2, pixels.height // 2)))  # type: ignore[arg-type]


def close(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int, content: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


RED = Image.new("RGB", (8, 8), (255, 0, 0))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif"])
async def test_the_usual_formats_are_read(format: str) -> None:
    image = await load_image_url(url(encoded(RED, format), f"image/{format}"), LIMITS)

    assert image.pixels.size == (8, 8)
    assert close(image.pixels.getpixel((4, 4)), (255, 0, 0))  # type: ignore[arg-type]


def test_transparency_is_laid_over_white() -> None:
    half_red = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert close(colour(encoded(half_red, "PNG")), (255, 127, 127))
    assert close(colour(encoded(half_red, "WEBP", lossless=True)), (255, 127, 127))
    assert close(colour(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG")), (255, 255, 255))


def test_a_palette_is_resolved_and_its_transparent_entry_is_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 255, 255, 0, 0])
    assert colour(encoded(palette, "PNG")) == (255, 0, 0)
    assert colour(encoded(palette, "GIF")) == (255, 0, 0)
    assert colour(encoded(palette, "PNG", transparency=1)) == (255, 255, 255)


def test_cmyk_becomes_rgb() -> None:
    magenta = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    red, green, blue = colour(encoded(magenta, "JPEG", quality=95))
    assert red > 200
    assert green < 60
    assert blue > 200


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.full((8, 8), 0x8080, dtype=np.uint16))
    assert colour(encoded(grey, "PNG")) == (128, 128, 128)
    white = Image.fromarray(np.full((8, 8), 0xFFFF, dtype=np.uint16))
    assert colour(encoded(white, "PNG")) == (255, 255, 255)


def test_bilevel_pictures_are_black_and_white() -> None:
    assert colour(encoded(Image.new("1", (8, 8), 1), "PNG")) == (255, 255, 255)


def test_exif_says_which_side_is_up() -> None:
    image = Image.new("RGB", (16, 8), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    pixels = decode_image(encoded(image, "PNG", exif=exif), LIMITS).pixels

    assert pixels.size == (8, 16)
    assert pixels.getpixel((4, 2)) == (255, 0, 0)
    assert pixels.getpixel((4, 14)) == (0, 0, 255)


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "green", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour(animation) == (255, 0, 0)


def test_equal_pixels_have_equal_digests_whatever_the_encoding() -> None:
    png, webp = encoded(RED, "PNG"), encoded(RED, "WEBP", lossless=True)
    turned = encoded(Image.new("RGB", (4, 16), (255, 0, 0)), "PNG")

    assert decode_image(png, LIMITS).digest == decode_image(webp, LIMITS).digest
    assert decode_image(png, LIMITS).digest != decode_image(turned, LIMITS).digest


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "unsupported_image_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_image_format"),
        (encoded(RED, "BMP"), "unsupported_image_format"),
        (encoded(RED, "TIFF"), "unsupported_image_format"),
        (encoded(RED, "PNG")[:-30], "invalid_image"),
        (encoded(Image.effect_noise((90, 90), 60).convert("RGB"), "JPEG")[:400], "invalid_image"),
        (encoded(Image.effect_noise((90, 90), 60).convert("RGB"), "WEBP")[:400], "invalid_image"),
        (png_that_claims(8, 8, b"\x00"), "invalid_image"),
        (png_that_claims(101, 100), "image_too_large"),
        (png_that_claims(60_000, 60_000), "image_too_large"),
        (png_that_claims(2**31 - 1, 2**31 - 1), "image_too_large"),
        (encoded(Image.new("RGB", (2000, 2)), "PNG"), "image_too_narrow"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 100_000, "image_too_large"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_pictures_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(ImageInputError) as refused:
        decode_image(data, LIMITS)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("given_url", "code"),
    [
        ("https://example.com/cat.png", "unsupported_image_url"),
        ("file:///etc/passwd", "unsupported_image_url"),
        ("cat.png", "unsupported_image_url"),
        ("", "unsupported_image_url"),
        ("data:image/png,abc", "invalid_image_url"),
        ("data:image/png;base64", "invalid_image_url"),
        ("data:image/png;base64,a b c", "invalid_image_url"),
        ("data:image/png;base64,abc", "invalid_image_url"),
        ("data:image/png;base64,äöü=", "invalid_image_url"),
        (url(b"<svg/>", "image/svg+xml"), "unsupported_image_format"),
        (url(encoded(RED, "PNG"), "text/html"), "unsupported_image_format"),
        (url(b"\x00" * 100_003), "image_too_large"),
    ],
)
async def test_urls_that_hold_no_picture_are_refused(given_url: str, code: str) -> None:
    with pytest.raises(ImageInputError) as refused:
        await load_image_url(given_url, LIMITS)
    assert refused.value.code == code


async def test_a_picture_of_exactly_the_limits_is_read() -> None:
    data = encoded(Image.new("RGB", (100, 100)), "PNG")
    limits = ImageInputLimits(max_bytes=len(data), max_pixels=10_000)

    assert (await load_image_url(url(data), limits)).pixels.size == (100, 100)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 1200), flips=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), max_size=6))
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_whatever_is_broken_it_is_an_answer_or_a_reason(format: str, cut: int, flips: list[tuple[int, int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = bytearray(encoded(Image.effect_noise((24, 24), 80).convert("RGB"), format, exif=exif))
    for place, value in flips:
        data[place % len(data)] = value
    try:
        image = decode_image(bytes(data[: len(data) - cut % len(data)]), LIMITS)
    except ImageInputError as error:
        assert error.code  # noqa: PT017 - either outcome is right
    else:
        assert image.pixels.mode == "RGB"
