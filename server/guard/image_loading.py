"""Where pictures of requests come from, and the threads that decode them."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from math import inf
from weakref import ref

from PIL import Image

from server.guard.images import ImageInputError, ImageInputLimits, InputImage, data_url_bytes, decode_image
from server.guard.remote_images import RemoteImageError, RemoteImages, open_remote_images
from server.settings import Settings

logger = logging.getLogger(__name__)


class DecodingBusyError(Exception):
    """All threads that decode pictures were taken for as long as one picture may wait for them, or the pictures of the
    requests before leave no room for another."""

    def __init__(self) -> None:
        super().__init__("the server has too many pictures to read")


class ImageLoader:
    """Reads pictures on threads of its own, so that slow ones hold up other pictures and nothing else.

    A picture that is not decoded in time is refused, but its thread cannot be stopped: what bounds that is said in
    :mod:`~server.guard.images`. Until then there is one thread less, and never one more.

    Args:
        threads: that decode. Each needs up to 24 bytes of memory for each pixel that a picture may have.
        timeout_s: for one picture, its wait for a thread included.
        remote: fetches pictures; None fetches none.
        held_pixels: of pictures that were read here and are still somewhere in this process, past which no more are.
            A picture of one colour is 1,000 times as large in memory as it was in its request, which may wait for long.
    """

    def __init__(
        self, threads: int, timeout_s: float, remote: RemoteImages | None = None, held_pixels: float = inf
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode-images")
        self._timeout_s = timeout_s
        self._remote = remote
        self._most_held_pixels = held_pixels
        self._held: list[ref[Image.Image]] = []
        self._holding = threading.Lock()

    async def load(self, url: str, limits: ImageInputLimits, pixels_before: int = 0) -> InputImage:
        """The picture of a URL.

        Args:
            url: a data URL or, where pictures are fetched, another.
            limits: how large it may be.
            pixels_before: of the request's pictures before this one.

        Raises:
            ImageInputError: it is too large, broken, no picture, takes too long, or is nothing that this server reads.
            DecodingBusyError: not now.
        """
        if self._remote is None or url[:5].lower() == "data:":
            return await self._on_thread(
                lambda: decode_image(data_url_bytes(url, limits.max_bytes), limits, pixels_before)
            )
        fetched = await self._remote.fetch(url, limits.max_bytes)
        try:
            return await self.decode(fetched, limits, pixels_before)
        except ImageInputError as error:
            # What is wrong with it would tell of what was fetched.
            logger.info("a picture that was fetched is refused: %s", error.code)
            raise RemoteImageError from None

    async def decode(self, data: bytes, limits: ImageInputLimits, pixels_before: int = 0) -> InputImage:
        """The picture of a file. For the rest see :meth:`load`."""
        return await self._on_thread(lambda: decode_image(data, limits, pixels_before))

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False)

    @property
    def held_pixels(self) -> int:
        """Of the pictures that were read here and that something still refers to."""
        with self._holding:
            pictures = [(held, picture) for held in self._held if (picture := held()) is not None]
            self._held = [held for held, _ in pictures]
        return sum(picture.width * picture.height for _, picture in pictures)

    def _decode_if_there_is_room(self, decode: Callable[[], InputImage]) -> InputImage:
        """Looked at on the thread, for until then other pictures may have come."""
        if self.held_pixels > self._most_held_pixels:
            raise DecodingBusyError
        image = decode()
        with self._holding:
            self._held.append(ref(image.pixels))
        return image

    async def _on_thread(self, decode: Callable[[], InputImage]) -> InputImage:
        decoding = self._threads.submit(self._decode_if_there_is_room, decode)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(decoding)
        except TimeoutError:
            if decoding.cancelled():  # no thread had begun with it
                raise DecodingBusyError from None
            raise ImageInputError("image_too_slow", f"takes more than {self._timeout_s:g} seconds to decode") from None


@asynccontextmanager
async def open_image_loader(settings: Settings) -> AsyncIterator[ImageLoader]:
    """What reads the pictures of requests, as the settings say."""
    limits = settings.limits
    async with open_remote_images(settings.remote_images) as remote:
        loader = ImageLoader(limits.input_image_threads, limits.input_image_timeout_s, remote, limits.held_input_pixels)
        try:
            yield loader
        finally:
            loader.close()
