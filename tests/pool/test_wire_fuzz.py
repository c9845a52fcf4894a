"""No input makes a decoder raise anything but WireError, or return what is outside the limits."""

import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.pool.wire import WIRE_VERSION, WireError
from tests.pool.wire_examples import EXAMPLES, Example

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
every_kind = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    | st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**9 - 1))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10) | st.integers(0, 9), inner),
    max_leaves=12,
)


def refuse_or_check(example: Example, data: bytes) -> None:
    try:
        decoded = example.decode(data)
    except WireError:
        return
    example.check(decoded)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values inside a value are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in inner for deeper in paths(item, (*path, key)))]


def get(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same value with another one at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@every_kind
@fuzz
@given(data=st.binary(max_size=400))
def test_any_bytes(example: Example, data: bytes) -> None:
    with pytest.raises(WireError):
        example.decode(data)


@every_kind
@fuzz
@given(value=values)
def test_any_msgpack(example: Example, value: Any) -> None:
    kind = msgpack.unpackb(example.data)[1]
    for envelope in (value, [WIRE_VERSION, value, value], [WIRE_VERSION, kind, value]):
        with pytest.raises(WireError):
            example.decode(msgpack.packb(envelope))


@every_kind
@fuzz
@given(data=st.data())
def test_flipped_bits(example: Example, data: st.DataObject) -> None:
    mutated = bytearray(example.data)
    positions = st.integers(0, min(len(mutated), 400) - 1) | st.integers(0, len(mutated) - 1)
    for position in data.draw(st.lists(positions, min_size=1, max_size=4)):
        mutated[position] ^= 1 << data.draw(st.integers(0, 7))
    refuse_or_check(example, bytes(mutated))


@every_kind
@fuzz
@given(data=st.data())
def test_bytes_cut_out_doubled_or_put_in(example: Example, data: st.DataObject) -> None:
    position = st.integers(0, len(example.data))
    first, second = sorted((data.draw(position), data.draw(position)))
    head, middle, tail = example.data[:first], example.data[first:second], example.data[second:]
    inserted = data.draw(st.binary(max_size=16))
    for mutated in (head, head + tail, head + middle + middle + tail, head + inserted + tail):
        refuse_or_check(example, mutated)


@every_kind
@fuzz
@given(data=st.data(), value=values)
def test_a_value_replaced_by_any_other(example: Example, data: st.DataObject, value: Any) -> None:
    envelope = msgpack.unpackb(example.data)
    path = data.draw(st.sampled_from(paths(envelope)))
    refuse_or_check(example, msgpack.packb(put(envelope, path, value)))


@every_kind
@fuzz
@given(data=st.data())
def test_two_values_swapped(example: Example, data: st.DataObject) -> None:
    envelope = msgpack.unpackb(example.data)
    all_paths = st.sampled_from(paths(envelope))
    first, second = data.draw(all_paths), data.draw(all_paths)
    if first[: len(second)] == second or second[: len(first)] == first:
        return  # one holds the other
    swapped = put(put(envelope, first, get(envelope, second)), second, get(envelope, first))
    refuse_or_check(example, msgpack.packb(swapped))


@every_kind
@fuzz
@given(data=st.data())
def test_a_field_of_another_kind_put_in(example: Example, data: st.DataObject) -> None:
    envelope = msgpack.unpackb(example.data)
    other = msgpack.unpackb(data.draw(st.sampled_from(list(EXAMPLES.values()))).data)
    path, other_path = (data.draw(st.sampled_from(paths(value))) for value in (envelope, other))
    refuse_or_check(example, msgpack.packb(put(envelope, path, get(other, other_path))))


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
@settings(parent=fuzz, max_examples=200)
@given(data=st.data())
def test_a_changed_file_with_the_checksum_that_goes_with_it(kind: str, data: st.DataObject) -> None:
    example = EXAMPLES[kind]
    version, name, fields = msgpack.unpackb(example.data)
    file = bytearray(fields["file"])
    positions = st.integers(0, 80) | st.integers(0, len(file) - 1)
    for position in data.draw(st.lists(positions, min_size=1, max_size=4)):
        file[position] = data.draw(st.integers(0, 255))
    del file[data.draw(st.just(len(file)) | st.integers(0, len(file))) :]
    fields["file"] = bytes(file)
    fields["crc32"] = zlib.crc32(fields["pixels"] or b"", zlib.crc32(fields["file"]))
    refuse_or_check(example, msgpack.packb([version, name, fields]))


@settings(parent=fuzz, max_examples=200)
@given(content=st.binary(min_size=576, max_size=576), dtype=st.sampled_from(["float32", "float16", "bfloat16"]))
def test_any_content_of_a_tensor_with_the_checksum_that_goes_with_it(content: bytes, dtype: str) -> None:
    example = EXAMPLES["states"]
    fields = msgpack.unpackb(example.data)[2]
    content = content if dtype == "float32" else content[:288]
    fields |= {"dtype": dtype, "data": content, "crc32": zlib.crc32(content)}
    refuse_or_check(example, msgpack.packb([WIRE_VERSION, "states", fields]))
