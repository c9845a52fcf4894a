"""Pictures in the terminal: by kitty's or iTerm2's protocol if it has one, else in coloured half blocks."""

import base64
import io
from collections.abc import Mapping

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

BLOCK_COLUMNS = 32
PROTOCOL_ROWS = 14
KITTY_CHUNK = 4096  # the most base64 that one escape code of the protocol may carry


def show_image(console: Console, data: bytes, environment: Mapping[str, str]) -> bool:
    """Show an encoded picture, if the console can.

    Args:
        console: where.
        data: a picture that Pillow reads.
        environment: tells what terminal it is.

    Returns:
        Whether it is shown.
    """
    if not console.is_terminal:
        return False
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    if speaks_kitty(environment):
        write_raw(console, kitty(image))
    elif speaks_iterm2(environment):
        write_raw(console, iterm2(image))
    elif console.color_system in ("truecolor", "256"):
        console.print(half_blocks(image, min(BLOCK_COLUMNS, console.width)), end="")
    else:
        return False
    return True


def speaks_kitty(environment: Mapping[str, str]) -> bool:
    """Whether the terminal shows pictures by kitty's protocol. Inside tmux its codes would be swallowed."""
    known = "KITTY_WINDOW_ID" in environment or environment.get("TERM") in ("xterm-kitty", "xterm-ghostty")
    return known and "TMUX" not in environment


def speaks_iterm2(environment: Mapping[str, str]) -> bool:
    """Whether the terminal shows pictures by iTerm2's protocol."""
    known = environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2"
    return known and "TMUX" not in environment


def kitty(image: Image.Image) -> str:
    """Kitty graphics protocol: transmit a PNG and display it, ``PROTOCOL_ROWS`` high, in chunks."""
    payload = base64.b64encode(png(image)).decode()
    chunks = [payload[i : i + KITTY_CHUNK] for i in range(0, len(payload), KITTY_CHUNK)]
    codes = []
    for number, chunk in enumerate(chunks, start=1):
        keys = f"a=T,f=100,r={PROTOCOL_ROWS}," if number == 1 else ""
        codes.append(f"\x1b_G{keys}m={int(number < len(chunks))};{chunk}\x1b\\")
    return "".join(codes)


def iterm2(image: Image.Image) -> str:
    """iTerm2's inline images protocol."""
    data = png(image)
    payload = base64.b64encode(data).decode()
    return f"\x1b]1337;File=inline=1;size={len(data)};height={PROTOCOL_ROWS};preserveAspectRatio=1:{payload}\x07"


def half_blocks(image: Image.Image, columns: int) -> Text:
    """The picture in characters, each two pixels: the upper one its colour, the lower one its background."""
    rows = max(2, round(image.height * columns / image.width / 2) * 2)
    small = image.resize((columns, rows), Image.Resampling.BOX)
    text = Text(no_wrap=True, end="")
    for y in range(0, rows, 2):
        for x in range(columns):
            upper, lower = (Color.from_rgb(*small.getpixel((x, y + below))) for below in (0, 1))  # type: ignore[misc]
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text


def png(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()


def write_raw(console: Console, codes: str) -> None:
    """Send escape codes past the console's own rendering."""
    console.file.write(codes + "\n")
    console.file.flush()
