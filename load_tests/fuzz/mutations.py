"""What is done to requests that were right."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from load_tests.fuzz import values
from load_tests.fuzz.values import Raw

Path = tuple[str | int, ...]
PICTURE_FIELDS = frozenset({"url", "image_url", "result"})
LARGEST = 4 * 2**20
"""Bytes of a body: more would test the network."""
PATH_SAFE = "/:@!$&'()*+,;=-._~"


@dataclass
class Draft:
    """A request that is still being written.

    Attributes:
        dice: decide what is done to it.
        method: of HTTP.
        path: with its parameters in place, not percent-encoded.
        query: names and values.
        headers: names and values.
        body: as JSON, if it has one.
        content: the body as it is sent; None until it is written.
        raw_path: the path as it is sent; None until it is encoded.
        is_http: whether it still is a request.
        mutations: what was done.
    """

    dice: random.Random
    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: dict[str, Any] | None = None
    content: bytes | None = None
    raw_path: str | None = None
    is_http: bool = True
    mutations: list[str] = field(default_factory=list)

    def written(self) -> bytes:
        """The body as it is sent."""
        if self.content is not None:
            return self.content[:LARGEST]
        return b"" if self.body is None else values.written(self.body)[:LARGEST]

    def target(self) -> bytes:
        """Path and query as they are sent."""
        path = self.raw_path if self.raw_path is not None else quote(self.path, safe=PATH_SAFE)
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.query)
        return (f"{path}?{query}" if query else path).encode("latin-1", "replace")


def places(body: Any, above: Path = ()) -> Iterator[Path]:
    """Where a body holds values: the ways to all of them, from the outside in."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for step, held in items:
        yield (*above, step)
        yield from places(held, (*above, step))


def holder(body: Any, place: Path) -> Any:
    """The object or list that holds the value at a place."""
    for step in place[:-1]:
        body = body[step]
    return body


def replace(draft: Draft) -> None:
    """Another value somewhere."""
    if not draft.body:
        return
    place = draft.dice.choice(list(places(draft.body)))
    here = holder(draft.body, place)
    is_picture = place[-1] in PICTURE_FIELDS and isinstance(here[place[-1]], str)
    here[place[-1]] = values.picture_url(draft.dice) if is_picture else values.value(draft.dice)


def disturb(draft: Draft) -> None:
    """A value of the same kind somewhere."""
    if not draft.body:
        return
    place = draft.dice.choice(list(places(draft.body)))
    here, dice = holder(draft.body, place), draft.dice
    held = here[place[-1]]
    if isinstance(held, bool):
        here[place[-1]] = dice.choice((int(held), str(held).lower(), not held))
    elif isinstance(held, int | float):
        with_point = Raw(f"{held}.0" if isinstance(held, int) else str(held))  # float() refuses the largest integers
        here[place[-1]] = dice.choice((-held, held * 10**6, with_point, str(held), *values.INTEGERS))
    elif isinstance(held, str):
        here[place[-1]] = dice.choice((held * 2, held.upper(), held[:-1], values.text(dice), f"{held}\x00", [held]))
    elif isinstance(held, list):
        again = Raw(values.written(held * dice.choice((2, 300))).decode("utf-8", "replace"))
        here[place[-1]] = dice.choice(([], again, [held], dict(enumerate(map(str, held)))))
    elif isinstance(held, dict):
        here[place[-1]] = dice.choice(({}, [held], list(held), {**held, "x": held}))


def remove(draft: Draft) -> None:
    """A value less."""
    if draft.body:
        place = draft.dice.choice(list(places(draft.body)))
        del holder(draft.body, place)[place[-1]]


def add(draft: Draft) -> None:
    """A field that is not there, or not known."""
    if draft.body:
        places_of_objects = [place for place in places(draft.body) if isinstance(holder(draft.body, place), dict)]
        here = holder(draft.body, draft.dice.choice(places_of_objects))
        here[values.text(draft.dice)[:200]] = values.value(draft.dice)


def move(draft: Draft) -> None:
    """A value from one place to another."""
    if draft.body:
        taken, to = (draft.dice.choice(list(places(draft.body))) for _ in range(2))
        moved = json.loads(json.dumps(holder(draft.body, taken)[taken[-1]]))
        holder(draft.body, to)[to[-1]] = moved


def not_json(draft: Draft) -> None:
    """A body that is no JSON, or more than that."""
    if draft.body is None:
        return
    dice, content = draft.dice, draft.written()
    cut = dice.randint(0, len(content))
    draft.content = dice.choice(
        (
            lambda: content[:cut],
            lambda: content[:cut] + dice.randbytes(3) + content[cut:],
            lambda: content + content,
            lambda: b"\xef\xbb\xbf" + content,
            lambda: content.decode("utf-8", "replace").encode("utf-16"),
            lambda: content.decode("utf-8", "replace").encode("latin-1", "replace"),
            lambda: content[:-1] + b',"stream":true,"stream":"x"}',
            lambda: b"",
            lambda: b" \n\t",
            lambda: b"[]",
            lambda: b"null",
            lambda: b"input=a&stream=true",
            lambda: b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\na\r\n--x--\r\n',
            lambda: dice.randbytes(dice.choice((1, 100, 10_000))),
            lambda: b"[" * dice.choice((1000, 200_000)),
            lambda: b'{"a":' * dice.choice((1000, 100_000)),
            lambda: content[:-1] + b',"a":"' + b"x" * dice.choice((2**20, 2**21)) + b'"}',
        )
    )()


def compress(draft: Draft) -> None:
    """A body that is compressed, or said to be."""
    if draft.body is not None:
        draft.headers.append(("Content-Encoding", draft.dice.choice(("gzip", "br", "deflate", "identity", "x"))))
        if draft.dice.random() < 0.7:
            draft.content = gzip.compress(draft.written(), mtime=0)


def content_type(draft: Draft) -> None:
    """A body that is said to be something else."""
    types = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", "", "/")
    others = ("application/json; charset=utf-16", "application/json; charset=\xff", "application/json, text/html")
    draft.headers.append(("Content-Type", draft.dice.choice((*types, *others))))


def header(draft: Draft) -> None:
    """A header with a wild value."""
    dice = draft.dice
    numbers = ("-1", "0", "1", "99999999999999999999", "1e3", "nan", "", " ", "\xb9", "0x1", "1,1", "\xff")
    wild = ("*", '"a", W/"b"', "a" * 5000, "é\xff", "%00", "<script>", "null", *values.CONTROL_TOKENS[:3])
    names = ("Last-Event-ID", "If-None-Match", "Accept", "X-Request-Id", "Origin", "Range", "Cookie", "Referer", "Host")
    more = ("Sec-Fetch-Site", "Sec-Fetch-Mode", "X-Forwarded-For", "X-Forwarded-Proto", "Expect", "Idempotency-Key")
    odd = ("Upgrade", "Connection", "TE", "Access-Control-Request-Method", "Accept-Encoding", "X-HTTP-Method-Override")
    usual = (
        "cross-site",
        "https://evil.example",
        "websocket",
        "upgrade",
        "100-continue",
        "bytes=0-",
        "text/event-stream",
    )
    draft.headers.append((dice.choice((*names, *more, *odd)), dice.choice((*numbers, *wild, *usual))))


def authorization(draft: Draft) -> None:
    """Another key, or none."""
    wild = ("", "Bearer", "Bearer  ", "Basic YTpi", "bearer x", "Bearer " + "x" * 3000, "Bearer é\xff", "Bearer a, b")
    draft.headers = [pair for pair in draft.headers if pair[0] != "Authorization"]
    if draft.dice.random() < 0.8:
        draft.headers.append(("Authorization", draft.dice.choice(wild)))


def query(draft: Draft) -> None:
    """Wild parameters of the query."""
    names = ("stream", "starting_after", "limit", "order", "after", "x", "", "stream[]", "model", *values.TEXTS[:6])
    wild = (
        "true",
        "1",
        "maybe",
        "-1",
        "0",
        "1e9",
        "9" * 30,
        "nan",
        "",
        "null",
        "asc",
        "desc",
        "rs_1",
        *values.TEXTS[:9],
    )
    for _ in range(draft.dice.randint(1, 3)):
        draft.query.append((draft.dice.choice(names), draft.dice.choice(wild)))


def path(draft: Draft) -> None:
    """A path that is written in another way, or leads elsewhere."""
    dice, whole = draft.dice, quote(draft.path, safe=PATH_SAFE)
    draft.raw_path = dice.choice(
        (
            whole + "/",
            whole.replace("/", "//"),
            whole.replace("/v1/", "/v1/../v1/"),
            whole.replace("/", "%2f"),
            whole.upper(),
            whole + "%00",
            whole + "%ff%fe",
            whole + "/" + "a" * 3000,
            whole + ";a=b",
            whole + "/..%5c..",
            "/v1/" + quote(values.text(dice)[:500]),
            "/" + quote(values.text(dice)[:500]),
            "*",
            "http://elsewhere.example" + whole,
        )
    )


def method(draft: Draft) -> None:
    """Another method."""
    draft.method = draft.dice.choice(
        ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get")
    )


def framing(draft: Draft) -> None:
    """A body that is not as long as it is said to be, or headers that are none."""
    dice, content = draft.dice, draft.written()
    draft.is_http = False
    kind = dice.randrange(7)
    if kind == 0:
        draft.headers.append(("Content-Length", str(len(content) + dice.choice((1, 1000)))))
    elif kind == 1:
        draft.headers.append(("Content-Length", dice.choice(("-1", "x", "9" * 30, "1, 2", ""))))
    elif kind == 2:
        draft.headers.append(("Transfer-Encoding", "chunked"))
        draft.content = dice.choice((b"zz\r\n", b"5\r\nab", b"ffffffffffffffff\r\n", b"1\r\na\r\n0\r\n\r\n", b"-1\r\n"))
    elif kind == 3:
        draft.headers += [("Transfer-Encoding", "chunked"), ("Content-Length", "3")]
    elif kind == 4:
        draft.headers.append((dice.choice(("a b", "", "a:b", "é", "x\x00")), dice.choice(("\x00", "a\r\n b", "\x7f"))))
    elif kind == 5:
        draft.headers += [(f"X-{n}", "a" * 1000) for n in range(dice.choice((50, 100, 2000)))]
    else:
        draft.method = dice.choice(("", "\x16\x03\x01", "GET /", "P\x00ST", "PRI * HTTP/2.0\r\n\r\nSM"))


MUTATIONS: dict[Callable[[Draft], None], int] = {
    replace: 30,
    disturb: 25,
    remove: 8,
    add: 8,
    move: 6,
    not_json: 8,
    compress: 2,
    content_type: 3,
    header: 10,
    authorization: 2,
    query: 6,
    path: 4,
    method: 3,
    framing: 4,
}
"""And how often each is done, in relation to the others."""
