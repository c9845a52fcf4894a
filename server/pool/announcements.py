"""What a worker says of itself, for all servers of its pool to read."""

import dataclasses
from dataclasses import dataclass

from models.diffusion.step_times import StepTimes
from server.pool.envelope import (
    WireError,
    array,
    flag,
    identifier,
    integer,
    number,
    optional,
    pack,
    read_as,
    record,
    text,
    unpack,
)

_MAX_BATCH = 1024
_MAX_BYTES = 16 * _MAX_BATCH + 1024
_MAX_COUNT = 2**31 - 1
_MAX_SECONDS = 1e6


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker, as of its last announcement.

    Attributes:
        worker_id: unique in its pool.
        max_batch: jobs of one step.
        step_times: measured, at the checkpoint's default size.
        running: jobs that it holds.
        steps_ahead: steps that these still need, summed over jobs and counted in those of the default size.
        finish_s: from a job's last step to its encoded picture; None before the first.
        device: what it draws on, for people.
        draining: whether it takes no more jobs.
    """

    worker_id: str
    max_batch: int
    step_times: StepTimes
    running: int
    steps_ahead: int
    finish_s: float | None
    device: str
    draining: bool


def encode_worker(worker: WorkerInfo) -> bytes:
    """An announcement.

    Raises:
        WireError: no server would read it.
    """
    batches, seconds = map(list, zip(*worker.step_times.measured, strict=True))
    fields = {field.name: getattr(worker, field.name) for field in dataclasses.fields(worker)}
    fields["step_times"] = {"batches": batches, "seconds": seconds}
    read_as("worker", _read_fields, fields)
    return pack("worker", fields)


def decode_worker(data: bytes) -> WorkerInfo:
    """The reverse of :func:`encode_worker`.

    Raises:
        WireError: it is no announcement.
    """
    return WorkerInfo(**unpack(data, {"worker": _read_fields}, _MAX_BYTES))


_read_measured = record({"batches": array(integer(1, _MAX_BATCH)), "seconds": array(number(1e-9, _MAX_SECONDS))})


def _step_times(value: object) -> StepTimes:
    measured = _read_measured(value)
    try:
        return StepTimes(tuple(zip(measured["batches"], measured["seconds"], strict=True)))
    except ValueError as error:
        raise WireError("must be one time for each of rising batch sizes") from error


_read_fields = record(
    {
        "worker_id": identifier,
        "max_batch": integer(1, _MAX_BATCH),
        "step_times": _step_times,
        "running": integer(0, _MAX_COUNT),
        "steps_ahead": integer(0, _MAX_COUNT),
        "finish_s": optional(number(0, _MAX_SECONDS)),
        "device": text(128),
        "draining": flag,
    }
)
