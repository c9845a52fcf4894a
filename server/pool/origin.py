"""Where a job comes from: what ties the logs, measurements and spans of a worker to the request that it draws for.

It lies beside the job and is no part of it. A worker that does not know it, or cannot read it, draws the same picture.
"""

from dataclasses import dataclass, field
from typing import Any

from server.observe.logging import request_id
from server.observe.tracing import carrier
from server.pool.envelope import Reader, WireError, matching, number, optional, pack, record, unpack

_MAX_BYTES = 2048
_LONGEST_S = 1e9

_FIELDS: dict[str, Reader[Any]] = {
    "request_id": matching(r"[A-Za-z0-9._:/+=-]{1,128}"),
    "traceparent": optional(matching("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")),
    "tracestate": optional(matching("[ -~]{1,512}")),
    "age_s": number(0, _LONGEST_S),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Of one job.

    Attributes:
        request_id: of the request; ``"-"`` is none.
        trace: the span that waits for the picture, as W3C headers; empty if there is none.
        age_s: since its dream states were there, when it was put in line.
    """

    request_id: str
    trace: dict[str, str] = field(default_factory=dict)
    age_s: float = 0.0


UNKNOWN = Origin("-")


def here(age_s: float) -> Origin:
    """The origin of a job of the current request and span."""
    return Origin(request_id.get(), carrier(), age_s)


def encode_origin(origin: Origin) -> bytes:
    """An origin as it travels."""
    headers = {name: origin.trace.get(name) for name in ("traceparent", "tracestate")}
    return pack("origin", {"request_id": origin.request_id, **headers, "age_s": origin.age_s})


def decode_origin(data: bytes) -> Origin:
    """The reverse of :func:`encode_origin`; what cannot be read is unknown."""
    try:
        fields = unpack(data, {"origin": record(_FIELDS)}, _MAX_BYTES)
    except WireError:
        return UNKNOWN
    trace = {name: fields[name] for name in ("traceparent", "tracestate") if fields[name] is not None}
    return Origin(fields["request_id"], trace, fields["age_s"])
