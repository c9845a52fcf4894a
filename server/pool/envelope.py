"""The envelope of everything that goes through Redis, and the strict reading of it.

An envelope is the msgpack array ``[version, kind, fields]``: an integer, a name, and a map of plain values. Nothing in
it names a type or runs code. What it may hold is said by readers: functions that take what msgpack gave and return it
with its type known, or raise :class:`WireError`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgpack

WIRE_VERSION = 1

_MAX_CONTAINERS = 16
_MAX_ENTRIES = 1024
_MAX_TEXT_BYTES = 4096

T = TypeVar("T")
Reader = Callable[[object], T]


class WireError(ValueError):
    """Something is not in the wire format, or not within its limits.

    Its text names the field and says what holds of it, and repeats nothing of the content but the version.
    """


def pack(kind: str, fields: Mapping[str, object]) -> bytes:
    """Put fields into an envelope.

    Raises:
        WireError: a value is none of msgpack's.
    """
    try:
        packed: bytes = msgpack.packb([WIRE_VERSION, kind, fields])
    except (OverflowError, TypeError, ValueError) as error:
        raise WireError(f"{kind} cannot be packed") from error
    return packed


def unpack(data: bytes, kinds: Mapping[str, Reader[T]], max_bytes: int) -> T:
    """Open an envelope.

    Args:
        data: one whole envelope.
        kinds: the kinds that it may be of, with the readers of their fields.
        max_bytes: refuse more than this unread.

    Returns:
        What the reader of its kind makes of its fields.

    Raises:
        WireError: it is anything else than such an envelope.
    """
    if len(data) > max_bytes:
        raise WireError(f"envelope has {len(data)} bytes, more than {max_bytes}")
    kind, fields = _open(data)
    kind = read_as("envelope kind", choice(*kinds), kind)
    return read_as(kind, kinds[kind], fields)


def _open(data: bytes) -> tuple[object, object]:
    """Kind and fields of an envelope of our version, which is looked at before the rest is."""
    containers = _Containers()
    unpacker = msgpack.Unpacker(
        raw=False,
        strict_map_key=True,
        list_hook=containers.array,
        object_pairs_hook=containers.map,
        max_buffer_size=len(data),
        max_str_len=_MAX_TEXT_BYTES,
        max_bin_len=len(data),
        max_array_len=_MAX_ENTRIES,
        max_map_len=_MAX_ENTRIES,
        max_ext_len=0,
    )
    try:
        unpacker.feed(data)
        length = unpacker.read_array_header()
        _check_version(unpacker.unpack())
        kind, fields = unpacker.unpack(), unpacker.unpack()
    except WireError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError("envelope is not msgpack, or not within its limits") from error
    if length != 3 or unpacker.tell() != len(data):
        raise WireError("envelope must hold version, kind and fields, and nothing else")
    return kind, fields


def _check_version(version: object) -> None:
    if type(version) is not int:
        raise WireError("envelope version must be an integer")
    if version != WIRE_VERSION:
        raise WireError(f"envelope version must be {WIRE_VERSION}, not {version}")


class _Containers:
    """Makes the maps and arrays of one envelope. Only a few: an empty one is one byte there and dozens in memory."""

    def __init__(self) -> None:
        self._made = 0

    def array(self, values: list[object]) -> list[object]:
        self._count()
        return values

    def map(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        self._count()
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("a map holds a key twice")
        return values

    def _count(self) -> None:
        self._made += 1
        if self._made > _MAX_CONTAINERS:
            raise ValueError(f"there are more than {_MAX_CONTAINERS} maps and arrays")


def read_as(name: str, read: Reader[T], value: object) -> T:
    """Read a value; what is wrong with it is said of its name."""
    try:
        return read(value)
    except WireError as error:
        raise WireError(f"{name} {error}") from error


def record(fields: Mapping[str, Reader[Any]]) -> Reader[dict[str, Any]]:
    """A map with exactly these fields."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WireError("must be a map")
        for name in fields:
            if name not in value:
                raise WireError(f"{name} is missing")
        if len(value) > len(fields):
            raise WireError("has unknown fields")
        return {name: read_as(name, read_field, value[name]) for name, read_field in fields.items()}

    return read


def integer(low: int, high: int) -> Reader[int]:
    """An integer between bounds, both included."""

    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WireError(f"must be an integer from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader[float]:
    """A number between finite bounds, both included."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise WireError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return read


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WireError("must be true or false")
    return value


def text(max_length: int) -> Reader[str]:
    """A string of so many characters at most."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > max_length:
            raise WireError(f"must be a string of at most {max_length} characters")
        return value

    return read


def matching(pattern: str) -> Reader[str]:
    """A string that all of a regular expression matches."""
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise WireError(f"must be a string like {pattern}")
        return value

    return read


identifier = matching("[A-Za-z0-9_.:-]{1,128}")
"""The id of a job or a worker: fit for a key of Redis and for a line in a log."""


def choice(*allowed: T) -> Reader[T]:
    """One of a few values."""

    def read(value: object) -> T:
        for candidate in allowed:
            if type(value) is type(candidate) and value == candidate:
                return candidate
        raise WireError("must be " + " or ".join(map(str, allowed)))

    return read


def binary(value: object) -> bytes:
    """Bytes."""
    if not isinstance(value, bytes):
        raise WireError("must be bytes")
    return value


def array(read_element: Reader[T]) -> Reader[list[T]]:
    """An array of values of one kind."""

    def read(value: object) -> list[T]:
        if not isinstance(value, list):
            raise WireError("must be an array")
        return [read_element(element) for element in value]

    return read


def optional(read_present: Reader[T]) -> Reader[T | None]:
    """A value that may be absent."""

    def read(value: object) -> T | None:
        return None if value is None else read_present(value)

    return read
