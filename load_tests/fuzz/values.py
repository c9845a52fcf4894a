"""Values that somebody would send to break something."""

import base64
import io
import json
import random
import struct
import zlib
from typing import Any

from PIL import Image

CONTROL_TOKENS = (
    "<s>",
    "</s>",
    "<unk>",
    "[PAD]",
    "<im_start>",
    "<im_patch>",
    "<im_end>",
    "<image>",
    "<dream>",
    "<dream_start>",
    "<dream_end>",
    "<dream_query_0>",
)
TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\x1b[2J\x07\x7f",
    "\r\nX-Injected: 1\r\n\r\n",
    "\ufeff\u202e\u2066abc",
    "e" + "\u0301" * 500,
    "🙂" * 64,
    "\U0010ffff\ufffe\uffff",
    "ﷺ" * 32,
    "{{ 7*7 }} {% for x in messages %}",
    "{0.__class__} %s %n ${jndi:ldap://localhost/a}",
    "'; DROP TABLE documents; --",
    "../../../../etc/passwd",
    "data: [DONE]\n\nevent: error\n\n",
    "![](data:image/png;base64,AAAA) ![a](http://169.254.169.254/)",
    "a" * 10_000,
    "ab " * 20_000,
    *CONTROL_TOKENS,
    "".join(CONTROL_TOKENS),
    "<dream_" + "start>",
)
INTEGERS = (0, -1, 1, 2, 3, 7, 16, 64, 65, 1000, 1001, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63)
HUGE_INTEGERS = (-(2**63) - 1, 2**64, 10**30, -(10**30), 10**400)
FLOATS = (0.0, -0.0, 0.1, 1.0, 1.5, 2.0, -1e-300, 5e-324, 1e-7, 1e308, -1e308, 3.0000000000000004)
NOT_JSON = (
    *("NaN", "Infinity", "-Infinity", "1e999", "0x10", "01", "+1", ".5", "1.", "'a'", "undefined", "None", "True"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u00"', '"\\x41"', '"\t"', "/**/1", "1,", ""),
)
"""What some readers of JSON take for numbers, texts and the like."""


class Raw(str):
    """What stands in a body as it is, whether it is JSON or not."""


def image_bytes(dice: random.Random) -> bytes:
    """A small picture, whole."""
    encoded = io.BytesIO()
    mode = dice.choice(("RGB", "RGBA", "L", "1", "P", "CMYK"))
    format = "jpeg" if mode == "CMYK" else dice.choice(("png", "gif", "webp")) if mode != "1" else "png"
    Image.new(mode, (dice.randint(1, 64), dice.randint(1, 64))).save(encoded, format=format)
    return encoded.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """A data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def picture_url(dice: random.Random) -> str:
    """A URL where a picture is expected: broken in some way, or not."""
    whole = image_bytes(dice)
    broken = bytearray(whole)
    broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
    return dice.choice(
        (
            lambda: data_url(whole),
            lambda: data_url(whole, dice.choice(("image/svg+xml", "text/html", "", "image/jpeg", "a/b/c;x=y"))),
            lambda: data_url(whole[: dice.randrange(len(whole))]),
            lambda: data_url(bytes(broken)),
            lambda: data_url(png_of_size(dice.choice((0, 1, 60_000)), dice.choice((0, 1, 2**31 - 1)))),
            lambda: data_url(dice.randbytes(200)),
            lambda: data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
            lambda: data_url(whole).replace("base64,", dice.choice(("", ",", "base64", "BASE64,", "base64,%%%")), 1),
            lambda: data_url(whole) + dice.choice(("=", "====", "\n", "é", "#a", "?a")),
            lambda: dice.choice(("file:///etc/passwd", "ftp://localhost/a", "javascript:alert(1)", "about:blank", "")),
            lambda: dice.choice(
                ("https://169.254.169.254/latest/", "http://[::1]/", "https://localhost:1/", "https://")
            ),
            lambda: f"/v1/files/images/file_{'A' * dice.choice((1, 31, 32, 33, 5000))}",
        )
    )()


def scalar(dice: random.Random) -> Any:
    """Some value that is no list and no object."""
    kind = dice.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return dice.random() < 0.5
    if kind == 2:
        return dice.choice(HUGE_INTEGERS)
    if kind == 3:
        return dice.choice(INTEGERS) * dice.choice((1, -1))
    if kind == 4:
        return dice.choice(FLOATS)
    if kind == 5:
        return Raw(dice.choice(NOT_JSON))
    return text(dice)


def text(dice: random.Random) -> str:
    """Some text."""
    if dice.random() < 0.2:
        return "".join(chr(dice.choice((dice.randrange(32, 127), dice.randrange(0x300)))) for _ in range(20))
    return dice.choice(TEXTS)


def value(dice: random.Random) -> Any:
    """Any value."""
    kind = dice.randrange(10)
    if kind == 0:
        return [value(dice) for _ in range(dice.randrange(4))]
    if kind == 1:
        return {text(dice)[:100]: value(dice) for _ in range(dice.randrange(4))}
    if kind == 2:
        return nested(dice.choice((10, 100, 1000, 100_000)), dice.choice(("[]", "{}")))
    if kind == 3:
        return Raw("[" + ",".join([dice.choice(("{}", "[]", "0", '""'))] * dice.choice((17, 300, 25_000))) + "]")
    return scalar(dice)


def nested(depth: int, brackets: str) -> Raw:
    """A value in so many others, written at once: Python itself cannot nest so deep."""
    opening = "[" if brackets == "[]" else '{"a":'
    closing = "]" if brackets == "[]" else "}"
    return Raw(opening * depth + "1" + closing * depth)


def written(body: Any) -> bytes:
    """A body as JSON, but for what is none."""
    return _json(body).encode("utf-8", "surrogatepass")


def _json(value: Any) -> str:
    match value:
        case Raw():
            return value
        case dict():
            return "{" + ",".join(f"{_json(str(name))}:{_json(held)}" for name, held in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
