"""Document events as bytes, and back: a msgpack array of a version, the name of the event, and its fields by name.

What an event holds is said once, by its dataclass: readers are made from its annotations, so every field is carried.
Nothing in the bytes names a type or runs code.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgpack

from server.interleave.events import DocumentEvent

CODEC_VERSION = 2
"""To be raised with every change of an event or a record: processes of different versions do not read each other's
documents."""

Reader = Callable[[object], Any]


class CodecError(ValueError):
    """These bytes are no event of this version. The message repeats nothing of their content."""


def encode_event(event: DocumentEvent) -> bytes:
    """The bytes of an event. Equal events have equal bytes."""
    packed: bytes = msgpack.packb([CODEC_VERSION, type(event).__name__, plain(event)])
    return packed


def decode_event(data: bytes) -> DocumentEvent:
    """The event that bytes stand for.

    Raises:
        CodecError: they stand for none.
    """
    try:
        envelope = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise CodecError("must be msgpack") from error
    if not isinstance(envelope, list) or len(envelope) != 3:
        raise CodecError("must be an array of version, event and fields")
    version, name, fields = envelope
    if type(version) is not int or version != CODEC_VERSION:
        raise CodecError(f"must be of version {CODEC_VERSION}")
    if not isinstance(name, str) or name not in EVENTS:
        raise CodecError("must be one of the events")
    try:
        event: DocumentEvent = dataclass_reader(EVENTS[name])(fields)
    except RecursionError as error:
        raise CodecError("is nested too deep") from error
    return event


def plain(value: object) -> object:
    """A value in msgpack's types: a dataclass becomes a map of its fields."""
    if isinstance(value, tuple):
        return [plain(element) for element in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


EVENTS: dict[str, type] = {event.__name__: event for event in get_args(DocumentEvent)}


@cache
def dataclass_reader(cls: type) -> Reader:
    """Reads a map with exactly the fields of a dataclass."""

    @cache
    def readers() -> dict[str, Reader]:  # on first use: a dataclass may have fields of its own type
        hints = get_type_hints(cls)
        return {field.name: reader(hints[field.name]) for field in dataclasses.fields(cls)}

    def read(value: object) -> Any:
        if not isinstance(value, dict) or value.keys() != readers().keys():
            raise CodecError(f"{cls.__name__} must be a map of its fields")
        return cls(**{name: read_field(value[name]) for name, read_field in readers().items()})

    return read


def reader(hint: Any) -> Reader:
    """Reads a value of an annotated type.

    Raises:
        TypeError: values of that type are not carried.
    """
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return dataclass_reader(hint)
    arguments = get_args(hint)
    match get_origin(hint):
        case None if hint is float:
            return read_float
        case None if hint in (bool, int, str, bytes, NoneType):
            return exactly(hint)
        case origin if origin is Literal:
            return one_of(arguments)
        case origin if origin in (Union, UnionType) and len(arguments) == 2 and arguments[1] is NoneType:
            return optional(reader(arguments[0]))
        case origin if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return array(reader(arguments[0]))
    raise TypeError(f"values of the type {hint} are not carried")


def exactly(cls: type) -> Reader:
    """A value of one of msgpack's types: a truth value is no number."""

    def read(value: object) -> object:
        if type(value) is not cls:
            raise CodecError(f"must be of the type {cls.__name__}")
        return value

    return read


def read_float(value: object) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CodecError("must be a number")
    return float(value)


def one_of(allowed: tuple[object, ...]) -> Reader:
    """One of a few values."""

    def read(value: object) -> object:
        if not isinstance(value, str) or value not in allowed:
            raise CodecError("must be one of " + ", ".join(map(str, allowed)))
        return value

    return read


def optional(read_present: Reader) -> Reader:
    """A value that may be absent."""

    def read(value: object) -> object:
        return None if value is None else read_present(value)

    return read


def array(read_element: Reader) -> Reader:
    """A tuple of values of one type."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise CodecError("must be an array")
        return tuple(map(read_element, value))

    return read
