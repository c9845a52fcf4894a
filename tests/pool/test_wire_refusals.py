"""What is not in the wire format, or not within the limits, is refused with a reason."""

import dataclasses
import io
import math
import pickle
import tracemalloc
import zlib

import msgpack
import pytest
import torch

from server.pool.wire import (
    WIRE_VERSION,
    JobLimits,
    WireError,
    decode_job,
    decode_states,
    encode_job,
    encode_states,
)
from tests.pool.wire_examples import (
    DIGEST,
    DTYPES,
    EXAMPLES,
    JOB,
    LIMITS,
    STATES_SHAPE,
    Example,
    fields_of,
    with_fields,
)
from tests.tiny_diffusion import make_render_job, random_states

every_kind = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_kind
def test_another_version_is_refused_by_its_number_before_the_rest_is_read(example: Example) -> None:
    _, kind, fields = msgpack.unpackb(example.data)
    with pytest.raises(WireError, match=f"version must be {WIRE_VERSION}, not 2$"):
        example.decode(msgpack.packb([2, kind, fields]))
    with pytest.raises(WireError, match=f"version must be {WIRE_VERSION}, not 77$"):
        example.decode(msgpack.packb([77, {"a": {"b": {"c": []}}}, "unknown", None]))


@every_kind
@pytest.mark.parametrize("version", [None, True, 1.0, "1", [1]])
def test_a_version_that_is_no_integer_is_refused(example: Example, version: object) -> None:
    _, kind, fields = msgpack.unpackb(example.data)
    with pytest.raises(WireError, match="version must be an integer"):
        example.decode(msgpack.packb([version, kind, fields]))


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("job", "states"),
        ("states", "stored"),
        ("png", "failure"),
        ("picture", "failed"),
        ("failure", "stored"),
        ("stored", "failure"),
        ("preview", "png"),
        ("worker", "progress"),
    ],
)
def test_no_kind_is_taken_for_another(kind: str, other: str) -> None:
    with pytest.raises(WireError, match="envelope kind must be"):
        EXAMPLES[kind].decode(EXAMPLES[other].data)


@every_kind
def test_a_field_too_many_or_too_few_is_refused(example: Example) -> None:
    version, kind, fields = msgpack.unpackb(example.data)
    with pytest.raises(WireError, match="unknown fields"):
        example.decode(msgpack.packb([version, kind, {**fields, "extra": 1}]))
    for name in fields:
        rest = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(WireError, match=f"{name} is missing"):
            example.decode(msgpack.packb([version, kind, rest]))


@every_kind
def test_a_field_that_is_given_twice_is_refused(example: Example) -> None:
    version, kind, fields = msgpack.unpackb(example.data)
    packer = msgpack.Packer()
    pairs = [*fields.items(), next(iter(fields.items()))]
    doubled = packer.pack_array_header(3) + packer.pack(version) + packer.pack(kind) + packer.pack_map_pairs(pairs)
    with pytest.raises(WireError, match="not msgpack, or not within its limits"):
        example.decode(doubled)


@every_kind
def test_what_is_cut_or_followed_by_more_is_refused(example: Example) -> None:
    for end in {0, 1, 2, len(example.data) // 2, len(example.data) - 1}:
        with pytest.raises(WireError):
            example.decode(example.data[:end])
    for changed in (example.data + b"\xc0", b"\x92" + example.data[1:], b"\x94" + example.data[1:]):
        with pytest.raises(WireError, match="version, kind and fields, and nothing else"):
            example.decode(changed)


@every_kind
def test_more_bytes_than_the_limits_allow_are_refused_unread(example: Example) -> None:
    with pytest.raises(WireError, match=r"envelope has 1000000 bytes, more than \d+"):
        example.decode(example.data + bytes(1_000_000 - len(example.data)))


@every_kind
@pytest.mark.parametrize(
    "head",
    [
        b"\x93\x01\xdd\xff\xff\xff\xff",
        b"\x93\x01\xdf\xff\xff\xff\xff",
        b"\x93\x01\xdb\xff\xff\xff\xff",
        b"\x93\x01\xc6\xff\xff\xff\xff",
        b"\x93\x01\xc9\xff\xff\xff\xff\x01",
        b"\xdd\xff\xff\xff\xff\x01",
        b"\x93\x01" + b"\x91" * 2000,
        b"\x93\x01" + b"\x81\xa1a" * 700,
    ],
    ids=["array", "map", "text", "bytes", "extension", "envelope", "nested arrays", "nested maps"],
)
def test_declared_sizes_and_depths_are_not_believed(example: Example, head: bytes) -> None:
    with pytest.raises(WireError):
        example.decode(head)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdc\x03\xe8" + 1000 * (b"\xdc\x03\xe8" + 1000 * b"\x80"),
        b"\xdd\x00\x0f\x42\x40" + 1_000_000 * b"\xc0",
        b"\xdf\x00\x03\xd0\x90" + 250_000 * b"\xa1a\xc0",
    ],
    ids=["empty maps", "an array of nothing", "a map of nothing"],
)
def test_small_values_that_are_many_cost_no_more_memory_than_their_bytes(bomb: bytes) -> None:
    limits = dataclasses.replace(LIMITS, states_shape=(64, 4096))
    data = b"\x93\x01\xa3job" + bomb
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="not within its limits"):
            decode_job(data, limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(data)


@every_kind
def test_a_pickle_is_refused(example: Example) -> None:
    with pytest.raises(WireError):
        example.decode(pickle.dumps({"states": [1.0, 2.0]}))
    file = io.BytesIO()
    torch.save(random_states(1), file)
    with pytest.raises(WireError):
        example.decode(file.getvalue())


CONTENT = "the content of the message"
wrong_in_jobs: list[tuple[str, object]] = [
    *[("id", value) for value in ("", CONTENT, "a\n", "ä", "{x}", "a" * 129, 7, None, b"a")],
    *[(side, value) for side in ("width", "height") for value in (0, -8, 12, 72 * 72, 2**40, 32.0, "32", None, True)],
    *[("steps", value) for value in (0, -1, 51, 2**63, 4.0, None, True)],
    *[("guidance_scale", value) for value in (math.nan, math.inf, -math.inf, -0.1, 1000.1, 2**60, "3", None, True)],
    *[("scheduler", value) for value in ("euler", "", CONTENT, 0, None, ["ddpm"])],
    *[("seed", value) for value in (-1, -(2**63), 1.0, "1", None, True)],
    *[("previews", value) for value in (-1, 4, 1.0, None, True)],
    *[("format", value) for value in ("gif", "PNG", CONTENT, 1, None)],
    *[("priority", value) for value in ("urgent", CONTENT, 1, None)],
    *[("timeout_s", value) for value in (0, 0.0, -1.0, math.nan, math.inf, 1e300, "30", True)],
    *[("empty_prompt", value) for value in ("", CONTENT, DIGEST.upper(), DIGEST[:-1], 1, DIGEST.encode())],
    *[("states", value) for value in (None, CONTENT, [], {}, b"", 1)],
    *[("negative_states", value) for value in (CONTENT, [], {}, b"", 1)],
]


@pytest.mark.parametrize(("field", "value"), wrong_in_jobs)
def test_a_wrong_parameter_is_refused_by_its_name_and_not_repeated(field: str, value: object) -> None:
    with pytest.raises(WireError, match=field) as error:
        decode_job(with_fields(encode_job(JOB, DIGEST), **{field: value}), LIMITS)
    assert CONTENT not in str(error.value)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    data = with_fields(encode_job(JOB, DIGEST), width=128, height=64)
    with pytest.raises(WireError, match="at most 4096"):
        decode_job(data, LIMITS)


@pytest.mark.parametrize(
    ("guidance_scale", "own", "digest"), [(3.0, False, None), (3.0, True, DIGEST), (1.0, False, DIGEST)]
)
def test_a_job_must_say_once_what_guides_it(guidance_scale: float, own: bool, digest: str | None) -> None:
    data = with_fields(
        encode_job(JOB, DIGEST),
        guidance_scale=guidance_scale,
        negative_states=fields_of(encode_states(random_states(2))) if own else None,
        empty_prompt=digest,
    )
    with pytest.raises(WireError, match="negative_states or empty_prompt"):
        decode_job(data, LIMITS)


def tensor_with(**changes: object) -> dict[str, object]:
    return {**fields_of(encode_states(random_states(1))), **changes}


def of_values(value: float) -> dict[str, object]:
    return fields_of(encode_states(torch.full(STATES_SHAPE, value)))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (tensor_with(dtype="float64"), "dtype must be float32 or float16 or bfloat16"),
        (tensor_with(dtype="int32"), "dtype must be"),
        (tensor_with(dtype="float16"), "data must have 288 bytes"),
        (tensor_with(shape=[24, 6]), r"shape must be \[6, 24\]"),
        (tensor_with(shape=[1, 6, 24]), "shape must be"),
        (tensor_with(shape=[2**40, 2**40]), "shape must be"),
        (tensor_with(shape=[-6, -24]), "shape must be"),
        (tensor_with(shape=[]), "shape must be"),
        (tensor_with(data=b""), "data must have 576 bytes"),
        (tensor_with(data=bytes(580), crc32=zlib.crc32(bytes(580))), "data must have 576 bytes"),
        (tensor_with(data="x" * 576), "data must be bytes"),
        (tensor_with(data=bytes(576)), "crc32 is not that of the data"),
        (tensor_with(crc32=-1), "crc32 must be an integer"),
        (of_values(math.nan), "data must be finite"),
        (of_values(-math.inf), "data must be finite"),
        (tensor_with(requires_grad=True), "has unknown fields"),
    ],
)
def test_states_that_do_not_fit_the_model_are_refused(tensor: dict[str, object], reason: str) -> None:
    with pytest.raises(WireError, match=f"^states {reason}"):
        decode_states(msgpack.packb([WIRE_VERSION, "states", tensor]), STATES_SHAPE)
    for field in ("states", "negative_states"):
        data = with_fields(encode_job(JOB, DIGEST), **{field: tensor})
        with pytest.raises(WireError, match=f"^job {field} {reason}"):
            decode_job(data, LIMITS)


@every_dtype
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_enough_to_refuse_states(dtype: torch.dtype, value: float) -> None:
    for place in [(0, 0), (3, 5), (5, 23)]:
        states = random_states(1).to(dtype)
        states[place] = value
        with pytest.raises(WireError, match="data must be finite"):
            decode_states(encode_states(states), STATES_SHAPE)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("progress", "step", 21),
        ("progress", "step", -1),
        ("progress", "steps", 2**31),
        ("progress", "job_id", "a b"),
        ("preview", "index", -1),
        ("preview", "image", None),
        ("stored", "job_id", b"a"),
        ("failed", "code", "Render Failed"),
        ("failed", "code", ""),
        ("failed", "message", "x" * 1001),
        ("failed", "message", None),
        ("failure", "code", 1),
        ("worker", "worker_id", ""),
        ("worker", "max_batch", 0),
        ("worker", "max_batch", 2**20),
        ("worker", "running", -1),
        ("worker", "steps_ahead", 1.5),
        ("worker", "finish_s", math.nan),
        ("worker", "device", "x" * 129),
        ("worker", "draining", 0),
        ("worker", "step_times", {}),
        ("worker", "step_times", [[1, 0.1]]),
        ("worker", "step_times", {"batches": [], "seconds": []}),
        ("worker", "step_times", {"batches": [1, 2], "seconds": [0.1]}),
        ("worker", "step_times", {"batches": [2, 1], "seconds": [0.1, 0.2]}),
        ("worker", "step_times", {"batches": [0], "seconds": [0.1]}),
        ("worker", "step_times", {"batches": [1], "seconds": [0.0]}),
        ("worker", "step_times", {"batches": [1], "seconds": [math.inf]}),
    ],
)
def test_a_wrong_field_of_a_message_is_refused_by_its_name(kind: str, field: str, value: object) -> None:
    example = EXAMPLES[kind]
    with pytest.raises(WireError, match=field):
        example.decode(with_fields(example.data, **{field: value}))


def test_limits_are_those_of_the_model() -> None:
    wide = JobLimits((12, 48), size_multiple=16, max_pixels=128 * 128, max_steps=100, max_previews=5)
    job = make_render_job("a", states=torch.randn(12, 48), width=128, height=128, steps=100, previews=5)
    assert decode_job(encode_job(job, DIGEST), wide).job.steps == 100
    for name, limit in [("size_multiple", 256), ("max_pixels", 128 * 127), ("max_steps", 99), ("max_previews", 4)]:
        with pytest.raises(WireError, match="must be"):
            decode_job(encode_job(job, DIGEST), dataclasses.replace(wide, **{name: limit}))
    with pytest.raises(WireError, match="states shape must be"):
        decode_job(encode_job(job, DIGEST), dataclasses.replace(wide, states_shape=(12, 49)))
