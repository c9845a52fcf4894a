"""Pictures from outside: read right, or refused with a reason, and nothing else."""

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from server.guard.images import MAX_JPEG_SCANS, ImageInputError, ImageInputLimits, data_url_bytes, decode_image
from tests.guard.picture_files import (
    FILES,
    NOISE,
    RED,
    encoded,
    gif_that_claims,
    jpeg_with_scans,
    png_that_claims,
    webp_that_claims,
)

LIMITS = ImageInputLimits(max_bytes=100_000, max_pixels=10_000)


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def colour(data: bytes) -> tuple[int, ...]:
    """Of the pixel in the middle."""
    pixels = decode_image(data, LIMITS).pixels
    assert pixels.mode == "RGB"
    return tuple(pixels.getpixel((pixels.width // 2, pixels.height // 2)))  # type: ignore[arg-type]


def close(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif"])
def test_the_usual_formats_are_read(format: str) -> None:
    image = decode_image(data_url_bytes(url(encoded(RED, format), f"image/{format}"), LIMITS.max_bytes), LIMITS)

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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_every_way_of_holding_a_camera_is_put_right(format: str, orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), "blue")
    upright.paste("red", (0, 0, 16, 8))  # the corner at the top left is told from the others
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encoded(stored, format, exif=exif, quality=95), LIMITS).pixels

    assert pixels.size == upright.size
    assert close(pixels.getpixel((4, 4)), (255, 0, 0), 60)  # type: ignore[arg-type]
    for corner in ((28, 4), (4, 12), (28, 12)):
        assert close(pixels.getpixel(corner), (0, 0, 255), 60)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "MPO"])
def test_of_an_animation_the_first_frame_is_read(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "green", "blue")]
    animation = encoded(frames[0], format, save_all=True, append_images=frames[1:], quality=95)
    assert close(colour(animation), (255, 0, 0))


def test_a_jpeg_with_many_scans_but_not_too_many_is_read() -> None:
    assert decode_image(jpeg_with_scans(NOISE, MAX_JPEG_SCANS), LIMITS).pixels.size == NOISE.size


def test_nothing_of_pillow_is_loaded_but_what_reads_the_four_formats(tmp_path: Path) -> None:
    for number, data in enumerate([*FILES.values(), encoded(RED, "TIFF"), encoded(RED, "BMP"), b"%!PS-Adobe-3.0"]):
        (tmp_path / str(number)).write_bytes(data)
    program = f"""if True:
        import sys
        from pathlib import Path
        from server.guard.images import ImageInputError, ImageInputLimits, decode_image
        for path in Path({str(tmp_path)!r}).iterdir():
            try:
                decode_image(path.read_bytes(), ImageInputLimits(100_000, 10_000))
            except ImageInputError:
                pass
        print(*sorted(name.split(".")[-1] for name in sys.modules if name.endswith("ImagePlugin")))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # TIFF's is there for EXIF, which has its tables; and it is not asked for pictures.
    expected = {"GifImagePlugin", "JpegImagePlugin", "PngImagePlugin", "TiffImagePlugin", "WebPImagePlugin"}
    assert set(ran.stdout.split()) == expected


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
        (webp_that_claims(101, 100), "image_too_large"),
        (webp_that_claims(16_383, 16_383), "image_too_large"),
        (gif_that_claims(101, 100), "image_too_large"),
        (gif_that_claims(65_535, 65_535), "image_too_large"),
        (jpeg_with_scans(NOISE, MAX_JPEG_SCANS + 1), "image_too_large"),
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
def test_urls_that_hold_no_picture_are_refused(given_url: str, code: str) -> None:
    with pytest.raises(ImageInputError) as refused:
        decode_image(data_url_bytes(given_url, LIMITS.max_bytes), LIMITS)
    assert refused.value.code == code


def test_a_picture_of_exactly_the_limits_is_read() -> None:
    data = encoded(Image.new("RGB", (100, 100)), "PNG")
    limits = ImageInputLimits(max_bytes=len(data), max_pixels=10_000)

    assert decode_image(data_url_bytes(url(data), limits.max_bytes), limits).pixels.size == (100, 100)
