"""How a job ended, as it is stored for the server that it came from."""

from typing import Any

from models.diffusion.job import Completed, Failed, ImageFormat, Outcome, RenderedImage, RenderJob
from server.pool.envelope import Reader, choice, matching, pack, record, text, unpack
from server.pool.pictures import max_picture_bytes, picture, picture_fields

_MAX_REASON_LENGTH = 1000

FAILURE: dict[str, Reader[Any]] = {"code": matching("[a-z_]{1,64}"), "message": text(_MAX_REASON_LENGTH)}
MAX_FAILURE_BYTES = 4 * _MAX_REASON_LENGTH + 256


def failure_fields(failed: Failed) -> dict[str, object]:
    """The fields of a failure. A long reason is cut: a job must not stay open because its end cannot be told."""
    return {"code": failed.code, "message": failed.message[:_MAX_REASON_LENGTH]}


def encode_image(image: RenderedImage) -> bytes:
    """A finished picture."""
    return pack("image", picture_fields(image))


def decode_image(data: bytes, *, width: int, height: int, format: ImageFormat) -> RenderedImage:
    """The reverse of :func:`encode_image`.

    Raises:
        WireError: it is no picture of exactly this size and format.
    """
    return unpack(data, {"image": _exactly(width, height, format)}, max_picture_bytes(width * height))


def encode_outcome(outcome: Outcome) -> bytes:
    """A picture, or why there is none.

    Raises:
        WireError: a field of it cannot be packed.
    """
    match outcome:
        case Completed(image=image):
            return encode_image(image)
        case Failed():
            return pack("failure", failure_fields(outcome))


def decode_outcome(data: bytes, job: RenderJob) -> Outcome:
    """The reverse of :func:`encode_outcome`.

    Raises:
        WireError: it is neither a picture of the size and format that the job asked for, nor a failure.
    """
    read_image = _exactly(job.width, job.height, job.format)
    read_failure = record(FAILURE)
    kinds: dict[str, Reader[Outcome]] = {
        "image": lambda value: Completed(read_image(value)),
        "failure": lambda value: Failed(**read_failure(value)),
    }
    return unpack(data, kinds, max_picture_bytes(job.width * job.height) + MAX_FAILURE_BYTES)


def _exactly(width: int, height: int, image_format: ImageFormat) -> Reader[RenderedImage]:
    return picture(choice(image_format), choice(width), choice(height), width * height)
