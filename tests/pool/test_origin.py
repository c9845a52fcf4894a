"""Where a job comes from, as it travels beside the job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.observe.logging import request_id
from server.pool.envelope import pack
from server.pool.origin import UNKNOWN, Origin, decode_origin, encode_origin, here

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("trace", [{}, {"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT, "tracestate": "a=b"}])
def test_an_origin_arrives_as_it_was_sent(trace: dict[str, str]) -> None:
    origin = Origin("req_1", trace, 0.25)
    assert decode_origin(encode_origin(origin)) == origin


def test_a_job_comes_from_the_request_in_which_it_is_made() -> None:
    token = request_id.set("req_2")
    try:
        assert here(age_s=1.0) == Origin("req_2", {}, 1.0)
    finally:
        request_id.reset(token)


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "two\nlines", "traceparent": None, "tracestate": None, "age_s": 0.0},
        {"request_id": "a", "traceparent": "00-" + "x" * 32, "tracestate": None, "age_s": 0.0},
        {"request_id": "a", "traceparent": None, "tracestate": "é", "age_s": 0.0},
        {"request_id": "a", "traceparent": None, "tracestate": None, "age_s": float("nan")},
        {"request_id": "a", "traceparent": None, "tracestate": None, "age_s": -1.0},
        {"request_id": "a", "traceparent": None, "tracestate": None, "age_s": 0.0, "more": 1},
        {"request_id": "a"},
    ],
)
def test_an_origin_that_cannot_be_read_is_unknown(fields: dict[str, object]) -> None:
    assert decode_origin(pack("origin", fields)) is UNKNOWN


@given(st.binary(max_size=300))
def test_no_bytes_make_a_worker_stumble(data: bytes) -> None:
    assert isinstance(decode_origin(data), Origin)
