"""What a worker tells the server that a job came from, as it goes over the reply stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from models.diffusion.job import Failed, ImageFormat, Preview, Progress
from server.pool.envelope import Reader, WireError, choice, identifier, integer, pack, record, unpack
from server.pool.outcomes import FAILURE, MAX_FAILURE_BYTES, failure_fields
from server.pool.pictures import max_picture_bytes, picture, picture_fields

_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the job lies in Redis, under its id. The last message about it."""


Update = Progress | Preview | Stored | Failed


@dataclass(frozen=True, slots=True)
class Message:
    """An update of a job."""

    job_id: str
    update: Update


def encode_message(message: Message) -> bytes:
    """A message.

    Raises:
        WireError: a field of it cannot be packed.
    """
    job: dict[str, object] = {"job_id": message.job_id}
    match message.update:
        case Progress(step=step, steps=steps):
            return pack("progress", {**job, "step": step, "steps": steps})
        case Preview(index=index, image=image):
            return pack("preview", {**job, "index": index, "image": picture_fields(image)})
        case Stored():
            return pack("stored", job)
        case Failed() as failed:
            return pack("failed", {**job, **failure_fields(failed)})


def decode_message(data: bytes, max_pixels: int) -> Message:
    """The reverse of :func:`encode_message`.

    Args:
        data: one message.
        max_pixels: of a preview.

    Raises:
        WireError: it is no such message.
    """
    return unpack(data, _readers(max_pixels), max_picture_bytes(max_pixels) + MAX_FAILURE_BYTES)


def _readers(max_pixels: int) -> dict[str, Reader[Message]]:
    """How to read each kind of message."""
    side = integer(1, max_pixels)
    image = picture(choice(*get_args(ImageFormat)), side, side, max_pixels)
    count = integer(0, _MAX_COUNT)
    return {
        "progress": _message(_progress, {"step": count, "steps": count}),
        "preview": _message(Preview, {"index": count, "image": image}),
        "stored": _message(Stored, {}),
        "failed": _message(Failed, FAILURE),
    }


def _message(update: Callable[..., Update], fields: Mapping[str, Reader[Any]]) -> Reader[Message]:
    """A message whose fields beside the job's id are the arguments of its update."""
    read_fields = record({"job_id": identifier, **fields})

    def read(value: object) -> Message:
        arguments = read_fields(value)
        return Message(arguments.pop("job_id"), update(**arguments))

    return read


def _progress(step: int, steps: int) -> Progress:
    if step > steps:
        raise WireError("step must be at most steps")
    return Progress(step, steps)
