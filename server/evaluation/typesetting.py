"""Pieces of a picture, each a picture itself: paragraphs, columns, rows, cards."""

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

LEADING = 1.32  # line height by font size
RADIUS = 12  # of a card's corners
SMOOTHING = 4  # by which round corners are drawn larger

Box = Image.Image


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that a sheet looks the same everywhere.

    Raises:
        TypeError: this Pillow was built without FreeType.
    """
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise TypeError("contact sheets need a Pillow with FreeType")
    return loaded


def lines(text: str, width: int, size: int) -> list[str]:
    """A text broken into lines of at most so many pixels, between words; a longer word has a line of its own."""
    broken: list[str] = []
    for word in text.split():
        longer = f"{broken[-1]} {word}" if broken else word
        if broken and font(size).getlength(longer) <= width:
            broken[-1] = longer
        else:
            broken.append(word)
    return broken


def paragraph(text: str, width: int, size: int, color: str, paper: str, most: int = 100) -> Box:
    """A text of at most so many lines, ragged right. What does not fit is cut off, and three dots say so."""
    broken = lines(text, width, size)
    if len(broken) > most:
        broken = [*broken[: most - 1], f"{broken[most - 1]} ..."]
    leading = round(size * LEADING)
    image = Image.new("RGB", (width, max(1, leading * len(broken))), paper)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(broken):
        pen.text((0, number * leading + leading / 2), line, color, font(size), anchor="lm")
    return image


def dot(size: int, color: str, paper: str) -> Box:
    """A round mark as high as a line of that font size."""
    leading = round(size * LEADING)
    large = Image.new("RGB", (size * SMOOTHING, leading * SMOOTHING), paper)
    radius, middle = 0.32 * size * SMOOTHING, leading * SMOOTHING / 2
    center = 0.4 * size * SMOOTHING
    box = (center - radius, middle - radius, center + radius, middle + radius)
    ImageDraw.Draw(large).ellipse(box, fill=color)
    return large.reduce(SMOOTHING)


def column(boxes: Sequence[Box], gap: int, paper: str) -> Box:
    """Boxes below each other, flush left."""
    height = sum(box.height for box in boxes) + gap * (len(boxes) - 1)
    image = Image.new("RGB", (max(box.width for box in boxes), height), paper)
    top = 0
    for box in boxes:
        image.paste(box, (0, top))
        top += box.height + gap
    return image


def row(boxes: Sequence[Box], gap: int, paper: str) -> Box:
    """Boxes beside each other, flush with the top."""
    width = sum(box.width for box in boxes) + gap * (len(boxes) - 1)
    image = Image.new("RGB", (width, max(box.height for box in boxes)), paper)
    left = 0
    for box in boxes:
        image.paste(box, (left, 0))
        left += box.width + gap
    return image


def padded(box: Box, padding: int, paper: str) -> Box:
    """A box with so many pixels around it."""
    image = Image.new("RGB", (box.width + 2 * padding, box.height + 2 * padding), paper)
    image.paste(box, (padding, padding))
    return image


def card(box: Box, width: int, height: int, padding: int, fill: str, rule: str, paper: str) -> Box:
    """A box in the upper left of a card with round corners and a thin rule."""
    size = (width * SMOOTHING, height * SMOOTHING)
    large = Image.new("RGB", size, paper)
    edge = (0, 0, size[0] - 1, size[1] - 1)
    ImageDraw.Draw(large).rounded_rectangle(edge, RADIUS * SMOOTHING, fill, rule, SMOOTHING)
    image = large.reduce(SMOOTHING)
    image.paste(box, (padding, padding))
    return image
