"""Valid envelopes of every kind, how to decode them, and what must hold of whatever is decoded."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import msgpack
import numpy as np
import torch

from models.diffusion.encoding import encode_image as encode_picture
from models.diffusion.job import (
    Completed,
    Failed,
    ImageFormat,
    Preview,
    Priority,
    Progress,
    RenderedImage,
    SchedulerName,
)
from models.diffusion.step_times import StepTimes
from server.pool.wire import (
    JobLimits,
    Message,
    Stored,
    WireJob,
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
from tests.tiny_diffusion import HIDDEN_SIZE, QUERIES, make_render_job, random_states

STATES_SHAPE = (QUERIES, HIDDEN_SIZE)
LIMITS = JobLimits(STATES_SHAPE, size_multiple=8, max_pixels=64 * 64, max_steps=50, max_previews=3)
WIDTH, HEIGHT = 24, 16
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
DIGEST = states_digest(random_states(999))
WORKER = WorkerInfo("worker-1", 8, StepTimes(((1, 0.01), (8, 0.03))), 3, 120, 0.2, "cuda:0 NVIDIA H100", False)


def noise(image_format: ImageFormat, width: int = WIDTH, height: int = HEIGHT) -> RenderedImage:
    """A picture of noise, which no format makes smaller."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels.setflags(write=False)
    return RenderedImage(encode_picture(pixels, image_format), image_format, pixels)


def fields_of(data: bytes) -> dict[str, Any]:
    """What is in an envelope."""
    fields: dict[str, Any] = msgpack.unpackb(data)[2]
    return fields


def with_fields(data: bytes, **changes: object) -> bytes:
    """The same envelope with some fields changed or added."""
    version, kind, fields = msgpack.unpackb(data)
    changed: bytes = msgpack.packb([version, kind, {**fields, **changes}])
    return changed


def check_states(states: torch.Tensor) -> None:
    assert states.shape == STATES_SHAPE
    assert states.dtype in DTYPES
    assert states.isfinite().all()


def check_job(wire_job: WireJob) -> None:
    job = wire_job.job
    assert 0 < len(job.id) <= 128
    check_states(job.states)
    if job.negative_states is not None:
        check_states(job.negative_states)
    assert 0 < job.width * job.height <= LIMITS.max_pixels
    assert job.width % LIMITS.size_multiple == job.height % LIMITS.size_multiple == 0
    assert 1 <= job.steps <= LIMITS.max_steps
    assert 0 <= job.guidance_scale <= 1000
    assert job.scheduler in get_args(SchedulerName)
    torch.Generator().manual_seed(job.seed)
    assert 0 <= job.previews <= LIMITS.max_previews
    assert job.format in get_args(ImageFormat)
    assert job.priority in get_args(Priority)
    assert job.timeout_s is None or 0 < job.timeout_s < float("inf")
    assert (wire_job.empty_prompt is not None) == (job.guided and job.negative_states is None)


def check_image(image: RenderedImage) -> None:
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (HEIGHT, WIDTH, 3)
    assert not image.pixels.flags.writeable


def check_outcome(outcome: Completed | Failed) -> None:
    match outcome:
        case Completed(image=image):
            check_image(image)
        case Failed(code=code, message=message):
            assert 0 < len(code) <= 64
            assert len(message) <= 1000


def check_message(message: Message) -> None:
    assert 0 < len(message.job_id) <= 128
    match message.update:
        case Progress(step=step, steps=steps):
            assert 0 <= step <= steps
        case Preview(index=index, image=image):
            assert index >= 0
            assert image.pixels.size <= 3 * LIMITS.max_pixels
        case Failed() as failed:
            check_outcome(failed)


def check_worker(worker: WorkerInfo) -> None:
    assert worker.max_batch >= 1
    assert worker.running >= 0
    assert worker.steps_ahead >= 0
    assert worker.step_times.seconds(worker.max_batch) > 0
    assert worker.finish_s is None or worker.finish_s >= 0


class Example(NamedTuple):
    """A valid envelope.

    Attributes:
        data: the bytes.
        decode: its decoder.
        check: asserts that what the decoder returned is within the limits.
    """

    data: bytes
    decode: Callable[[bytes], Any]
    check: Callable[[Any], None]


def _message(update: Any) -> Example:
    return Example(
        encode_message(Message("job-1", update)), lambda data: decode_message(data, LIMITS.max_pixels), check_message
    )


def _image(image_format: ImageFormat) -> Example:
    return Example(
        encode_image(noise(image_format)),
        lambda data: decode_image(data, width=WIDTH, height=HEIGHT, format=image_format),
        check_image,
    )


def _outcome(outcome: Completed | Failed) -> Example:
    job = make_render_job("job-1", width=WIDTH, height=HEIGHT)
    return Example(encode_outcome(outcome), lambda data: decode_outcome(data, job), check_outcome)


JOB = make_render_job("job-1", timeout_s=30.0)
GUIDED = dataclasses.replace(JOB, states=JOB.states.half(), negative_states=random_states(5).bfloat16())

EXAMPLES = {
    "job": Example(encode_job(JOB, DIGEST), lambda data: decode_job(data, LIMITS), check_job),
    "job with its own guidance": Example(encode_job(GUIDED, None), lambda data: decode_job(data, LIMITS), check_job),
    "states": Example(encode_states(random_states(1)), lambda data: decode_states(data, STATES_SHAPE), check_states),
    "png": _image("png"),
    "webp": _image("webp"),
    "jpeg": _image("jpeg"),
    "picture": _outcome(Completed(noise("png"))),
    "failure": _outcome(Failed("render_failed", "The picture could not be drawn.")),
    "progress": _message(Progress(3, 20)),
    "preview": _message(Preview(0, noise("webp"))),
    "stored": _message(Stored()),
    "failed": _message(Failed("unavailable", "The service is shutting down.")),
    "worker": Example(encode_worker(WORKER), decode_worker, check_worker),
}
