"""The threads that decode pictures: a slow picture is refused, and holds up nothing but pictures."""

import asyncio
import base64
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from server.guard import image_loading
from server.guard.image_loading import DecodingBusyError, ImageLoader
from server.guard.images import ImageInputError, ImageInputLimits, InputImage
from tests.api.serving import in_memory, scripted_engine, until
from tests.guard.picture_files import FILES, RED
from tests.scripted.script import EOS

LIMITS = ImageInputLimits(max_bytes=100_000, max_pixels=10_000)
SHOWN = InputImage(RED, "red")
FILE = next(iter(FILES.values()))
URL = f"data:image/png;base64,{base64.b64encode(FILE).decode()}"
CHAT = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/interleaved": {"messages": CHAT},
    "/v1/chat/completions": {"messages": CHAT},
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]},
}


class SlowDecoder:
    """A decoder that stands still until it is let go; put in the place of the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self._may_end = threading.Event()
        monkeypatch.setattr(image_loading, "decode_image", self._decode)

    def _decode(self, data: bytes, limits: ImageInputLimits, pixels_before: int) -> InputImage:
        self.begun.release()
        assert self._may_end.wait(60)
        return SHOWN

    def let_go(self) -> None:
        self._may_end.set()


async def refused_as_slow(loader: ImageLoader) -> ImageInputError:
    """What is said of a picture that a thread had begun with; on a busy machine that may not be the first one."""
    while True:
        try:
            await loader.decode(b"slow", LIMITS)
        except DecodingBusyError:
            continue
        except ImageInputError as error:
            return error


async def test_a_picture_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, loader = SlowDecoder(monkeypatch), ImageLoader(threads=1, timeout_s=0.2)
    try:
        assert (await refused_as_slow(loader)).code == "image_too_slow"
    finally:
        decoder.let_go()
        loader.close()


async def test_a_picture_that_finds_no_thread_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, loader = SlowDecoder(monkeypatch), ImageLoader(threads=1, timeout_s=0.2)
    slow = asyncio.create_task(refused_as_slow(loader))
    try:
        assert await asyncio.to_thread(decoder.begun.acquire, timeout=60)
        with pytest.raises(DecodingBusyError):
            await loader.decode(b"next", LIMITS)
        assert (await slow).code == "image_too_slow"
    finally:
        decoder.let_go()
        loader.close()


async def test_a_thread_is_free_again_when_its_slow_picture_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, loader = SlowDecoder(monkeypatch), ImageLoader(threads=1, timeout_s=0.2)
    try:
        await refused_as_slow(loader)
        decoder.let_go()
        while True:
            try:
                assert await loader.decode(b"next", LIMITS) == SHOWN
                break
            except DecodingBusyError:  # the thread has not come to its end yet
                pass
    finally:
        loader.close()


async def test_however_many_pictures_come_there_are_only_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, loader = SlowDecoder(monkeypatch), ImageLoader(threads=3, timeout_s=60)
    loading = [asyncio.create_task(loader.decode(b"slow", LIMITS)) for _ in range(20)]
    try:
        for _ in range(3):
            assert await asyncio.to_thread(decoder.begun.acquire, timeout=60)
        assert not decoder.begun.acquire(blocking=False)
        # What the rest of the server runs on threads goes on.
        assert await asyncio.to_thread(lambda: "free") == "free"
    finally:
        decoder.let_go()
        assert await asyncio.gather(*loading) == [SHOWN] * 20
        loader.close()


async def test_a_caller_is_told_to_come_again_when_all_threads_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = SlowDecoder(monkeypatch)
    body = {"input": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}
    async with in_memory(limits={"input_image_threads": 1, "input_image_timeout_s": 2.0}) as app:
        await app.ready()
        first = asyncio.create_task(app.client.post("/v1/interleaved", json=body))
        assert await asyncio.to_thread(decoder.begun.acquire, timeout=60)
        second = await app.client.post("/v1/interleaved", json=body)
        decoder.let_go()

    assert second.status_code == 503
    assert second.headers["retry-after"]
    assert second.json()["error"]["code"] == "image_decoding_busy"
    error = (await first).json()["error"]
    assert (error["code"], error["param"]) == ("image_too_slow", "input[0].image_url")


async def test_all_kinds_of_files_are_read_on_the_threads() -> None:
    loader = ImageLoader(threads=2, timeout_s=60)
    try:
        images = await asyncio.gather(*(loader.decode(data, LIMITS) for data in FILES.values()))
    finally:
        loader.close()
    assert {image.pixels.mode for image in images} == {"RGB"}


async def test_no_more_pictures_are_read_while_those_before_fill_the_memory() -> None:
    loader = ImageLoader(threads=1, timeout_s=60, held_pixels=0)
    try:
        held = await loader.decode(FILE, LIMITS)
        assert loader.held_pixels == held.pixels.width * held.pixels.height
        with pytest.raises(DecodingBusyError):
            await loader.decode(FILE, LIMITS)
        del held
        await until(lambda: loader.held_pixels == 0)
        await loader.decode(FILE, LIMITS)
    finally:
        loader.close()


async def test_pictures_that_come_together_do_not_fill_the_memory_either() -> None:
    loader = ImageLoader(threads=1, timeout_s=60, held_pixels=0)
    try:
        read = await asyncio.gather(*(loader.decode(FILE, LIMITS) for _ in range(5)), return_exceptions=True)
    finally:
        loader.close()
    assert [type(each) for each in read] == [InputImage, *[DecodingBusyError] * 4]


@pytest.fixture
def _garbage_is_left() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_garbage_is_left")
@pytest.mark.parametrize("more", [{}, {"stream": True}, {"store": True}, {"temperature": 3}], ids=str)
@pytest.mark.parametrize("path", REQUESTS)
async def test_the_pictures_of_a_request_go_with_its_answer(path: str, more: dict[str, Any]) -> None:
    async with in_memory(scripted_engine(["a red square", EOS])) as app:
        await app.ready()
        await app.client.post(path, json=REQUESTS[path] | more)
        app.engine.calls.clear()
        await until(lambda: app.service.image_loader.held_pixels == 0)
