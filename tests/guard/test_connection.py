"""The bounds of one connection, by a clock that the tests move."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from server.guard.connection import MAX_HEADER_BYTES, BoundedProtocol
from server.settings import ServerSettings

HEADERS = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(eq=False)
class Timer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Clock:
    """What the protocol asks of an event loop. Tasks are never run: no app answers."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        self.timers.append(Timer(self.now + delay, lambda: call(*args)))
        return self.timers[-1]

    def create_task(self, task: Any) -> Any:
        task.close()
        return type("Task", (), {"add_done_callback": lambda self, _: None})()

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at <= end]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = timer.at
            timer.call()
        self.now = end


@dataclass
class Transport:
    """A peer, as far as the protocol sees him."""

    waiting: int = 0
    written: bytes = b""
    closed: bool = False
    aborted: bool = False

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[BoundedProtocol, Transport, Clock]:
    """A connection whose headers may take 20 s, and its reader 60 s."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    clock, transport = Clock(), Transport()
    settings = ServerSettings(header_timeout_s=20, send_timeout_s=60)
    config = uvicorn.Config(app, log_config=None)  # type: ignore[arg-type]
    protocol = BoundedProtocol(
        settings, PlainTextResponse, config=config, server_state=ServerState(), app_state={}, _loop=clock
    )
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport, clock


def test_a_connection_that_says_nothing_is_closed() -> None:
    _, transport, clock = connected()
    clock.advance(19)
    assert not transport.closed
    clock.advance(2)
    assert transport.closed


def test_headers_that_trickle_are_given_up_however_steadily_they_do() -> None:
    protocol, transport, clock = connected()
    for byte in HEADERS[:25]:
        protocol.data_received(bytes([byte]))
        clock.advance(1)

    assert transport.closed
    assert b"400 Bad Request" in transport.written


def test_an_answer_and_the_time_to_the_next_request_are_not_counted_as_headers() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS)
    clock.advance(1000)

    assert not transport.closed
    assert not transport.aborted


def test_a_pipelined_request_that_is_not_read_yet_does_not_end_the_answer_before_it() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS + HEADERS[:10])
    clock.advance(100)
    assert not transport.closed
    protocol.cycle.response_complete = True
    clock.advance(21)
    assert transport.closed


@pytest.mark.parametrize(
    ("request_", "more"),
    [(LONG, b"a"), (LONG, b"a" * 1_000_000), (CHUNKED, b"1;"), (CHUNKED, b"0\r\na: b\r\n")],
    ids=["some of the body", "the rest of the body", "some of a chunk", "some of the trailers"],
)
def test_what_comes_of_a_body_after_its_answer_keeps_no_connection_open(request_: bytes, more: bytes) -> None:
    protocol, transport, clock = connected()
    protocol.data_received(request_)
    answer(protocol)
    protocol.data_received(more)
    clock.advance(19)
    assert not transport.closed
    clock.advance(2)

    assert transport.closed
    assert not transport.written


def test_line_ends_between_requests_keep_no_connection_open() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS)
    answer(protocol)
    for _ in range(20):
        protocol.data_received(b"\r\n")
        clock.advance(1)

    assert transport.closed


def test_the_rest_of_a_body_is_read_after_its_answer_and_takes_no_time_from_the_next_request() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(LONG)
    answer(protocol)
    for _ in range(10):
        protocol.data_received(b"a" * 100_000)
        clock.advance(1)
    protocol.data_received(HEADERS[:10])
    clock.advance(18)
    protocol.data_received(HEADERS[10:])
    clock.advance(1000)

    assert not transport.closed
    assert not transport.aborted


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("line", [b"a: b\r\n", b"a"], ids=["many", "one"])
def test_trailers_that_grow_for_ever_are_given_up(line: bytes, answered: bool) -> None:
    protocol, transport, _ = connected()
    protocol.data_received(CHUNKED + b"3\r\nabc\r\n0\r\nb: ")
    if answered:
        answer(protocol)
    sent = 0
    while not transport.aborted:
        assert sent <= MAX_HEADER_BYTES
        protocol.data_received(line * 100)
        sent += 100 * len(line)

    assert not transport.written


def answer(protocol: BoundedProtocol) -> None:
    """Have the app answer, and then time pass in which uvicorn alone would have closed the connection."""
    protocol.cycle.response_complete = True
    protocol.on_response_complete()
    assert protocol.timeout_keep_alive_task is not None


def test_a_peer_who_takes_nothing_is_disconnected() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS)
    transport.waiting = 1000
    protocol.pause_writing()
    clock.advance(59)
    assert not transport.aborted
    clock.advance(2)
    assert transport.aborted


def test_a_peer_who_is_slow_but_goes_on_is_left_alone() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS)
    transport.waiting = 1000
    protocol.pause_writing()
    for _ in range(50):
        clock.advance(59)
        transport.waiting -= 1
    assert not transport.aborted
    protocol.resume_writing()
    clock.advance(1000)
    assert not transport.aborted


def test_a_lost_connection_leaves_no_timer() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(HEADERS[:10])
    transport.waiting = 1000
    protocol.pause_writing()
    protocol.connection_lost(OSError())

    assert all(timer.cancelled for timer in clock.timers)
