"""Pictures in the memory of this process."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic

from server.files.base import StorageError, StoredImage


class MemoryImageStore:
    """Keeps pictures until they expire, or newer ones need their room. Those of other processes it does not have.

    Args:
        max_bytes: of all pictures together; the oldest go first.
        ttl_s: how long a picture is kept.
        now: a clock in seconds.
    """

    def __init__(self, max_bytes: int, ttl_s: float, now: Callable[[], float] = monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._now = now
        # All live equally long, so the oldest is also the next to expire.
        self._images: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    async def put(self, id: str, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise StorageError("storage_full", f"the picture has more than the {self._max_bytes} bytes that are kept")
        self._drop_expired()
        while self._bytes + len(data) > self._max_bytes:
            self._drop_oldest()
        self._images[id] = data, self._now() + self._ttl_s
        self._bytes += len(data)

    async def get(self, id: str) -> StoredImage | None:
        self._drop_expired()
        if id not in self._images:
            return None
        data, expires_at = self._images[id]
        return StoredImage(data, expires_at - self._now())

    async def delete(self, ids: Sequence[str]) -> None:
        for id in ids:
            data, _ = self._images.pop(id, (b"", 0.0))
            self._bytes -= len(data)

    def _drop_expired(self) -> None:
        now = self._now()
        while self._images and next(iter(self._images.values()))[1] <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (data, _) = self._images.popitem(last=False)
        self._bytes -= len(data)
