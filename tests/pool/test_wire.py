"""What travels through Redis arrives as it was sent."""

import dataclasses
import io
import math
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.diffusion.job import Completed, Failed, ImageFormat, Preview, Progress, RenderedImage, RenderJob
from models.diffusion.step_times import StepTimes
from server.pool.wire import (
    Message,
    Stored,
    WireError,
    WorkerInfo,
    decode_image,
    decode_job,
    decode_message,
    decode_outcome,
    decode_states,
    decode_worker,
    encode_image,
    encode_job,
    encode_message,
    encode_outcome,
    encode_states,
    encode_worker,
    states_digest,
)
from tests.pool.wire_examples import (
    DIGEST,
    DTYPES,
    HEIGHT,
    JOB,
    LIMITS,
    STATES_SHAPE,
    WIDTH,
    WORKER,
    noise,
)
from tests.tiny_diffusion import make_render_job, random_states

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_format = pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])


def random_bits(dtype: torch.dtype, seed: int) -> torch.Tensor:
    """States whose bit patterns are random: subnormal numbers, negative zeros, all but NaN and infinity."""
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    limits, generator = torch.iinfo(bits), torch.Generator().manual_seed(seed)
    states = torch.randint(limits.min, limits.max, STATES_SHAPE, generator=generator, dtype=bits).view(dtype)
    return torch.where(states.isfinite(), states, -torch.zeros((), dtype=dtype))


def bits_of(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tensor.dtype, tensor.shape, tensor.view(torch.uint8).tolist())


def plain(job: RenderJob) -> dict[str, Any]:
    """A job with its tensors as bits, to compare."""
    fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    return {name: bits_of(value) if isinstance(value, torch.Tensor) else value for name, value in fields.items()}


states_of_any_kind = st.builds(random_bits, st.sampled_from(DTYPES), st.integers(0, 2**32))
jobs = st.builds(
    RenderJob,
    id=st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True),
    states=states_of_any_kind,
    negative_states=st.none() | states_of_any_kind,
    width=st.sampled_from([8, 16, 64]),
    height=st.sampled_from([8, 24, 64]),
    steps=st.integers(1, LIMITS.max_steps),
    guidance_scale=st.floats(0, 1000),
    scheduler=st.sampled_from(["ddpm", "ddim", "dpmpp_2m"]),
    seed=st.integers(0, 2**64 - 1),
    previews=st.integers(0, LIMITS.max_previews),
    format=st.sampled_from(["png", "webp", "jpeg"]),
    priority=st.sampled_from(["normal", "high"]),
    timeout_s=st.none() | st.floats(1e-6, 1e9),
)


@settings(max_examples=100, deadline=None)
@given(job=jobs)
def test_a_job_arrives_as_it_was_sent(job: RenderJob) -> None:
    arrived = decode_job(encode_job(job, DIGEST), LIMITS)
    assert plain(arrived.job) == plain(job)
    needs_empty_prompt = job.guidance_scale > 1 and job.negative_states is None
    assert arrived.empty_prompt == (DIGEST if needs_empty_prompt else None)


@every_dtype
def test_states_arrive_bit_for_bit(dtype: torch.dtype) -> None:
    states = random_bits(dtype, seed=7)
    assert bits_of(decode_states(encode_states(states), STATES_SHAPE)) == bits_of(states)


@pytest.mark.parametrize(
    "states",
    [random_states(1).requires_grad_(), torch.randn(24, 6).T, torch.randn(12, 24)[::2], torch.randn(24).expand(6, 24)],
    ids=["with gradients", "transposed", "strided", "expanded"],
)
def test_states_arrive_however_they_lie_in_memory(states: torch.Tensor) -> None:
    assert torch.equal(decode_states(encode_states(states), STATES_SHAPE), states)


def test_states_computed_in_inference_mode_can_be_sent() -> None:
    with torch.inference_mode():
        states = random_states(1) * 2
    assert torch.equal(decode_states(encode_states(states), STATES_SHAPE), states)


@every_dtype
def test_states_that_arrived_are_writable_and_share_no_memory_with_the_message(dtype: torch.dtype) -> None:
    data = encode_states(random_states(1).to(dtype))
    torch.set_warn_always(True)  # torch warns of read-only memory only once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first = decode_states(data, STATES_SHAPE)
    finally:
        torch.set_warn_always(False)
    first.fill_(3.0)
    assert torch.equal(decode_states(data, STATES_SHAPE), random_states(1).to(dtype))


def test_the_bytes_of_version_1_are_these() -> None:
    data = b"\x00\x00\x80\x3f\x00\x00\x00\xc0"  # 1.0 and -2.0, little-endian
    checksum = zlib.crc32(data).to_bytes(4, "big")
    assert encode_states(torch.tensor([[1.0, -2.0]])) == (
        b"\x93\x01\xa6states\x84"
        b"\xa5dtype\xa7float32\xa5shape\x92\x01\x02\xa4data\xc4\x08" + data + b"\xa5crc32\xce" + checksum
    )


def test_a_digest_tells_states_apart_by_dtype_shape_and_bits() -> None:
    states = random_states(1)
    alike = {states_digest(states), states_digest(states.clone()), states_digest(states.T.contiguous().T)}
    others = [states.half(), states.T, states.reshape(-1), states + 1, torch.zeros(6, 24), -torch.zeros(6, 24)]
    assert len(alike) == 1
    assert len(alike | {states_digest(other) for other in others}) == 1 + len(others)


@every_format
@pytest.mark.parametrize(("width", "height"), [(8, 8), (64, 8), (8, 64), (24, 16)])
def test_a_picture_arrives_as_it_was_sent(image_format: ImageFormat, width: int, height: int) -> None:
    image = noise(image_format, width, height)
    arrived = decode_image(encode_image(image), width=width, height=height, format=image_format)
    assert (arrived.data, arrived.format) == (image.data, image_format)
    np.testing.assert_array_equal(arrived.pixels, image.pixels)
    assert not arrived.pixels.flags.writeable


def test_a_png_travels_without_its_pixels() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(black).save(file, "png")
    assert len(encode_image(RenderedImage(file.getvalue(), "png", black))) < 1000 < black.nbytes


@every_format
def test_a_finished_job_arrives_as_its_outcome(image_format: ImageFormat) -> None:
    job = make_render_job("a", width=WIDTH, height=HEIGHT, format=image_format)
    outcome = decode_outcome(encode_outcome(Completed(noise(image_format))), job)
    assert isinstance(outcome, Completed)
    np.testing.assert_array_equal(outcome.image.pixels, noise(image_format).pixels)
    failed = Failed("render_failed", "Das Bild konnte nicht gezeichnet werden: ü")
    assert decode_outcome(encode_outcome(failed), job) == failed


@pytest.mark.parametrize("update", [Progress(0, 1), Progress(50, 50), Stored(), Failed("worker_lost", "")])
def test_an_update_arrives_as_it_was_sent(update: Progress | Stored | Failed) -> None:
    message = Message("doc_1-image-2", update)
    assert decode_message(encode_message(message), LIMITS.max_pixels) == message


@every_format
def test_a_preview_arrives_whatever_its_size(image_format: ImageFormat) -> None:
    for width, height in [(64, 64), (16, 8), (4, 4)]:
        image = noise(image_format, width, height)
        arrived = decode_message(encode_message(Message("a", Preview(1, image))), LIMITS.max_pixels)
        assert isinstance(arrived.update, Preview)
        assert (arrived.job_id, arrived.update.index, arrived.update.image.data) == ("a", 1, image.data)
        np.testing.assert_array_equal(arrived.update.image.pixels, image.pixels)


def test_a_long_reason_is_cut_so_that_the_failure_arrives() -> None:
    data = encode_message(Message("a", Failed("render_failed", "é" * 5000)))
    assert decode_message(data, max_pixels=1).update == Failed("render_failed", "é" * 1000)


@pytest.mark.parametrize(
    "worker",
    [
        WORKER,
        dataclasses.replace(WORKER, finish_s=None, draining=True, running=0, steps_ahead=0),
        dataclasses.replace(WORKER, max_batch=1024, step_times=StepTimes(tuple((n, 0.1) for n in range(1, 1025)))),
    ],
    ids=["at work", "leaving", "with many measurements"],
)
def test_an_announcement_arrives_as_it_was_sent(worker: WorkerInfo) -> None:
    assert decode_worker(encode_worker(worker)) == worker


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "x" * 129),
        ("seed", -1),
        ("seed", 2**64),
        ("guidance_scale", math.nan),
        ("guidance_scale", math.inf),
        ("timeout_s", 0.0),
        ("timeout_s", math.inf),
        ("priority", "urgent"),
        ("states", torch.zeros(STATES_SHAPE, dtype=torch.float64)),
        ("negative_states", torch.zeros(STATES_SHAPE, dtype=torch.int32)),
    ],
)
def test_a_job_that_no_worker_takes_is_not_encoded(field: str, value: Any) -> None:
    with pytest.raises(WireError, match="dtype" if "states" in field else field):
        encode_job(dataclasses.replace(JOB, **{field: value}), DIGEST)


def test_a_guided_job_is_not_encoded_without_what_guides_it() -> None:
    with pytest.raises(WireError, match="negative_states or empty_prompt"):
        encode_job(make_render_job("a", guidance_scale=3.0), None)


def test_an_announcement_that_no_server_reads_is_not_encoded() -> None:
    with pytest.raises(WireError, match="max_batch"):
        encode_worker(dataclasses.replace(WORKER, max_batch=0))
