"""What servers and workers say to each other through Redis, as bytes.

Each value has an ``encode_`` and a ``decode_`` function. Decoding takes any bytes and raises nothing but
:class:`WireError`; what it returns is within the limits that it was given. Tensors and pictures take milliseconds: that
is work for a thread. The format itself is in ``envelope``, ``tensors`` and ``pictures`` beside this file.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, get_args

import torch

from models.diffusion.job import ImageFormat, Priority, RenderJob, SchedulerName
from server.pool.announcements import WorkerInfo, decode_worker, encode_worker
from server.pool.envelope import (
    WIRE_VERSION,
    Reader,
    WireError,
    choice,
    identifier,
    integer,
    matching,
    number,
    optional,
    pack,
    read_as,
    record,
    unpack,
)
from server.pool.messages import Message, Stored, decode_message, encode_message
from server.pool.outcomes import decode_image, decode_outcome, encode_image, encode_outcome
from server.pool.tensors import max_tensor_bytes, tensor, tensor_fields

__all__ = [
    "WIRE_VERSION",
    "JobLimits",
    "Message",
    "Stored",
    "WireError",
    "WireJob",
    "WorkerInfo",
    "decode_image",
    "decode_job",
    "decode_message",
    "decode_outcome",
    "decode_states",
    "decode_worker",
    "encode_image",
    "encode_job",
    "encode_message",
    "encode_outcome",
    "encode_states",
    "encode_worker",
    "states_digest",
]

_PARAMETERS: dict[str, Reader[Any]] = {
    "id": identifier,
    "width": integer(1, 2**16),
    "height": integer(1, 2**16),
    "steps": integer(1, 10_000),
    "guidance_scale": number(0, 1000),
    "scheduler": choice(*get_args(SchedulerName)),
    "seed": integer(0, 2**64 - 1),
    "previews": integer(0, 64),
    "format": choice(*get_args(ImageFormat)),
    "priority": choice(*get_args(Priority)),
    "timeout_s": optional(number(1e-6, 1e9)),
    "empty_prompt": optional(matching("[0-9a-f]{64}")),
}
"""What holds of any job beside its tensors; the limits of a model come on top."""

_PARAMETERS_BYTES = 2048


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What a job may be, for one model in one pool.

    Attributes:
        states_shape: of dream states, ``(num_dream_queries, hidden_size)``.
        size_multiple: pixels that width and height must be a multiple of.
        max_pixels: width times height.
        max_steps: denoising steps.
        max_previews: early views.
    """

    states_shape: tuple[int, int]
    size_multiple: int
    max_pixels: int
    max_steps: int
    max_previews: int = 8


@dataclass(frozen=True, slots=True)
class WireJob:
    """A job as it travels.

    Attributes:
        job: the job.
        empty_prompt: :func:`states_digest` of the states that its ``negative_states=None`` stands for; None where the
            job needs none, because it brings its own or is drawn without guidance.
    """

    job: RenderJob
    empty_prompt: str | None


def encode_job(job: RenderJob, empty_prompt: str | None) -> bytes:
    """A job.

    Args:
        job: what to draw.
        empty_prompt: :func:`states_digest` of the empty prompt's states; sent only if the job needs them.

    Raises:
        WireError: no worker of any model would take the job.
    """
    digest = empty_prompt if _needs_empty_prompt(job) else None
    parameters = {key: getattr(job, key) for key in _PARAMETERS if key != "empty_prompt"}
    checked = read_as("job", record(_PARAMETERS), {**parameters, "empty_prompt": digest})
    _check_guidance(WireJob(job, digest))
    states = tensor_fields(job.states)
    negative_states = None if job.negative_states is None else tensor_fields(job.negative_states)
    return pack("job", {**checked, "states": states, "negative_states": negative_states})


def decode_job(data: bytes, limits: JobLimits) -> WireJob:
    """The reverse of :func:`encode_job`.

    Raises:
        WireError: it is no job within the limits.
    """
    max_bytes = 2 * max_tensor_bytes(limits.states_shape) + _PARAMETERS_BYTES
    fields = unpack(data, {"job": _job_reader(limits)}, max_bytes)
    wire_job = WireJob(empty_prompt=fields.pop("empty_prompt"), job=RenderJob(**fields))
    _check_size(wire_job.job, limits)
    _check_guidance(wire_job)
    return wire_job


def encode_states(states: torch.Tensor) -> bytes:
    """Dream states ``[num_dream_queries, hidden_size]`` by themselves.

    Raises:
        WireError: their dtype does not travel.
    """
    return pack("states", tensor_fields(states))


def decode_states(data: bytes, states_shape: tuple[int, int]) -> torch.Tensor:
    """The reverse of :func:`encode_states`.

    Raises:
        WireError: it is no dream states of that shape.
    """
    return unpack(data, {"states": tensor(states_shape)}, max_tensor_bytes(states_shape))


def states_digest(states: torch.Tensor) -> str:
    """SHA-256 in hex of what :func:`encode_states` gives: equal for equal dtypes, shapes and bits."""
    return hashlib.sha256(encode_states(states)).hexdigest()


def _job_reader(limits: JobLimits) -> Reader[dict[str, Any]]:
    states = tensor(limits.states_shape)
    return record(
        {
            **_PARAMETERS,
            "steps": integer(1, limits.max_steps),
            "previews": integer(0, limits.max_previews),
            "states": states,
            "negative_states": optional(states),
        }
    )


def _check_size(job: RenderJob, limits: JobLimits) -> None:
    if job.width % limits.size_multiple or job.height % limits.size_multiple:
        raise WireError(f"job width and height must be multiples of {limits.size_multiple}")
    if job.width * job.height > limits.max_pixels:
        raise WireError(f"job width times height must be at most {limits.max_pixels}")


def _needs_empty_prompt(job: RenderJob) -> bool:
    return job.guided and job.negative_states is None


def _check_guidance(wire_job: WireJob) -> None:
    if _needs_empty_prompt(wire_job.job) != (wire_job.empty_prompt is not None):
        raise WireError("job must bring either negative_states or empty_prompt where it is guided")
