"""The fan-out benchmark: both servers send the same, and readers see how late it is."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing

import httpx
import pytest
from starlette.applications import Starlette

from load_tests.fan_out.__main__ import QUICK, Load, report
from load_tests.fan_out.readers import BODY, Reader, Window
from load_tests.fan_out.servers import bare_app, our_app
from load_tests.fan_out.ticks import PERIOD_S, Listener, Ticks, latest_tick, load_tokenizer, words
from load_tests.results import Results

PLACES = {b"red": 0, b"blue": 1, b"green": 2}
TEXT_FRAME = re.compile(
    r'id: (\d+)\nevent: text\.delta\ndata: \{"sequence":\1,"part":0,"type":"text\.delta","text":"([ a-zA-Z]+)"\}'
)


async def test_all_listeners_get_the_same_ticks() -> None:
    ticks = Ticks()
    async with ticks.running(), aclosing(ticks.listen()) as one, aclosing(ticks.listen()) as other:
        first, second = await asyncio.gather(anext(one), anext(other))

    assert first == second
    assert abs(first[0] - latest_tick(time.monotonic())) < 1 / PERIOD_S


async def test_ticks_that_a_listener_has_not_taken_come_together() -> None:
    listener = Listener()
    for tick in (1, 2, 3):
        listener.put(tick)

    assert await listener.take() == [1, 2, 3]


def test_every_word_of_the_ticks_is_one_token_of_the_tokenizer() -> None:
    tokenizer = load_tokenizer()
    for word, token_id in words(tokenizer).items():
        assert tokenizer.decode([1, token_id]).strip() == word


def test_a_reader_tells_how_late_a_frame_is_by_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(PLACES, broken=set())
    reader.window = Window()
    # Ticks 300 and 303, which have the place of red, and 304; the last frame holds two words.
    for tick, late_s, text in ((300, 0.01, "red"), (303, 0.02, "blue green red"), (304, 0.03, "blue")):
        now = tick * PERIOD_S + late_s
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        reader.data_received(b'1f\r\nid: 1\ndata: {"text":" %s"}\n\n\r\n' % text.encode())

    assert reader.window.ticks == 4
    assert reader.window.frames == 2
    assert reader.window.lateness == pytest.approx([0.02, 0.03])


@pytest.mark.parametrize("make_app", [lambda: our_app(port=0), bare_app], ids=["ours", "bare"])
async def test_both_servers_send_the_same_frames(make_app: Callable[[], Starlette]) -> None:
    app = make_app()
    known = set(words(load_tokenizer()))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=StreamingTransport(app, frames=4), base_url="http://server") as client,
    ):
        while not (await client.get("/health/ready")).is_success:  # noqa: ASYNC110 - a real server is asked the same
            await asyncio.sleep(0.01)
        answer = await client.post("/v1/interleaved", content=BODY)

    frames = [frame for frame in answer.text.split("\n\n") if "text.delta" in frame]
    assert frames
    for frame in frames:
        told = TEXT_FRAME.fullmatch(frame)
        assert told, frame
        assert set(told[2].split()) <= known


class StreamingTransport(httpx.AsyncBaseTransport):
    """Calls an app and leaves a stream after so many frames, as httpx's own, which waits for its end, cannot."""

    def __init__(self, app: Starlette, frames: int) -> None:
        self._app = app
        self._frames = frames

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, parts, enough = 500, [], asyncio.Event()
        asked = [{"type": "http.request", "body": await request.aread(), "more_body": False}]

        async def receive() -> dict[str, object]:
            if asked:
                return asked.pop()
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(str(message["status"]))
            else:
                parts.append(message["body"])
                if len(parts) == self._frames:
                    enough.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": request.url.raw_path,
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 1),
            "server": ("server", 80),
        }
        await self._app(scope, receive, send)
        return httpx.Response(status, content=b"".join(bytes(part) for part in parts))  # type: ignore[call-overload]


def test_the_report_compares_the_servers_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    def load(readers: int, us_per_token: float) -> Load:
        return Load(readers, 0.5, 1.0, us_per_token, 1.0, 1.0, 2.0, 100.0)

    # A machine that is twice as slow in the second round changes no ratio.
    rounds = {
        "ours": [[load(100, 60.0), load(1000, 50.0)], [load(100, 120.0), load(1000, 100.0)]],
        "bare": [[load(100, 50.0), load(1000, 40.0)], [load(100, 100.0), load(1000, 80.0)]],
    }
    report(Results("fan_out"), rounds, QUICK)

    printed = capsys.readouterr().out
    assert "bar fan_out_cpu_of_bare_loop_100_readers 1.200 1.300 met" in printed
    assert "bar fan_out_cpu_of_bare_loop_1000_readers 1.250 1.300 met" in printed
