"""Every event survives as bytes, and no bytes do harm."""

import dataclasses
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentStarted,
    Image,
    ImageQueued,
    TextDelta,
    TokenLogprob,
    Usage,
)
from server.interleave.journal.codec import CODEC_VERSION, CodecError, decode_event, encode_event, reader

EVENTS: tuple[type, ...] = get_args(DocumentEvent)
SCALARS: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    NoneType: st.none(),
}


@cache
def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, those of its dataclasses in all their fields."""
    if dataclasses.is_dataclass(hint):
        return st.deferred(
            lambda: st.builds(hint, **{name: values_of(inner) for name, inner in get_type_hints(hint).items()})
        )
    if hint in SCALARS:
        return SCALARS[hint]
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin in (Union, UnionType):
            return st.one_of(*map(values_of, arguments))
        case origin if origin is tuple:
            return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    raise TypeError(f"no values for {hint}")


events = st.one_of(*map(values_of, EVENTS))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize("event_type", EVENTS)
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_every_field_of_every_event_survives(event_type: type, data: st.DataObject) -> None:
    event = data.draw(values_of(event_type))

    assert decode_event(encode_event(event)) == event


def test_events_that_have_changed_have_a_new_version() -> None:
    """When this fails, raise ``CODEC_VERSION`` and write down the fields of the new one."""
    shared = (Image, Usage, TokenLogprob)
    fields = {cls.__name__: " ".join(field.name for field in dataclasses.fields(cls)) for cls in (*EVENTS, *shared)}

    assert CODEC_VERSION == 2
    assert fields == {
        "DocumentStarted": "sequence id model created",
        "TextDelta": "sequence part text logprobs",
        "ImageQueued": "sequence part position eta_s",
        "ImageProgress": "sequence part step steps",
        "ImagePreview": "sequence part index image",
        "ImageCompleted": "sequence part image",
        "ImageFailed": "sequence part code message",
        "DocumentCompleted": "sequence finish_reason usage",
        "DocumentFailed": "sequence code message usage",
        "Image": "data format width height seed id delivery",
        "Usage": "prompt_tokens completion_tokens image_tokens images denoising_steps length_limit cached_tokens",
        "TokenLogprob": "token bytes logprob top",
    }


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x91" * 2000)
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc7\x00\x05")
def test_bytes_that_are_no_event_raise_the_error_of_the_codec(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_event(data)


@given(plain)
@settings(deadline=None)
def test_msgpack_that_is_no_event_raises_the_error_of_the_codec(value: object) -> None:
    for data in (msgpack.packb(value), msgpack.packb([CODEC_VERSION, "TextDelta", value])):
        with pytest.raises(CodecError):
            decode_event(data)


@given(event=events, data=st.data())
@settings(deadline=None)
def test_a_damaged_event_is_an_event_or_an_error_of_the_codec(event: DocumentEvent, data: st.DataObject) -> None:
    damaged = bytearray(encode_event(event))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))

    try:
        decoded = decode_event(bytes(damaged))
    except CodecError:
        return
    again = encode_event(decoded)
    assert encode_event(decode_event(again)) == again  # not the events themselves: a number may have become NaN


def test_an_event_of_another_version_is_refused() -> None:
    fields = msgpack.unpackb(encode_event(TextDelta(1, 0, "a")))

    with pytest.raises(CodecError, match="version"):
        decode_event(msgpack.packb([CODEC_VERSION + 1, *fields[1:]]))


@pytest.mark.parametrize("change", [{"text": None}, {"text": "a", "colour": "red"}, {}])
def test_an_event_with_other_fields_is_refused(change: dict[str, object]) -> None:
    version, name, fields = msgpack.unpackb(encode_event(TextDelta(1, 0, "a")))
    changed = {**fields, **change} if change else {key: fields[key] for key in fields if key != "text"}

    with pytest.raises(CodecError):
        decode_event(msgpack.packb([version, name, changed]))


def test_a_value_that_is_nested_too_deep_is_refused() -> None:
    token: dict[str, object] = {"token": "", "bytes": b"", "logprob": 0.0, "top": []}
    for _ in range(250):
        token = {**token, "top": [token]}
    fields = {"sequence": 1, "part": 0, "text": "a", "logprobs": [token]}
    data = msgpack.packb([CODEC_VERSION, "TextDelta", fields])

    def decode_below(calls: int) -> None:
        decode_below(calls - 1) if calls else decode_event(data)

    with pytest.raises(CodecError, match="deep"):
        decode_below(500)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (ImageQueued(1, 0, 0, 1.5), {"eta_s": "soon"}),
        (ImageQueued(1, 0, 0, 1.5), {"eta_s": True}),
        (TextDelta(1, 0, "a"), {"logprobs": {}}),
        (TextDelta(1, 0, "a"), {"logprobs": [{}]}),
        (DocumentCompleted(1, "stop", Usage()), {"finish_reason": "tired"}),
        (DocumentCompleted(1, "stop", Usage()), {"finish_reason": []}),
    ],
)
def test_a_field_of_another_type_is_refused(event: DocumentEvent, change: dict[str, object]) -> None:
    version, name, fields = msgpack.unpackb(encode_event(event))

    with pytest.raises(CodecError):
        decode_event(msgpack.packb([version, name, {**fields, **change}]))


def test_a_truth_value_is_no_number() -> None:
    fields = {"sequence": True, "id": "doc", "model": "m", "created": 1}

    with pytest.raises(CodecError):
        decode_event(msgpack.packb([CODEC_VERSION, DocumentStarted.__name__, fields]))


def test_a_type_that_cannot_be_carried_is_a_defect_that_shows() -> None:
    with pytest.raises(TypeError):
        reader(dict[str, int])
