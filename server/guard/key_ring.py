"""The keys that are in force. The file is looked at every second, and read again when it has changed."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.guard.caller import Caller
from server.guard.keys import APIKey, KeysError, digest_of, distinct, read_file, read_list
from server.settings import AuthSettings
from server.tasks import end

LOOK_EVERY_S = 1.0
WAYS_OUT = (
    "this server has no API keys. Give it some: auth.keys_file (or DREAMSERVE_AUTH__KEYS_FILE) names a file of them, "
    "and `dreamserve key` makes one. Or let everybody use it who reaches it: `dreamserve serve --no-auth`, which is "
    "auth.enabled = false (or DREAMSERVE_AUTH__ENABLED=false)"
)

logger = logging.getLogger(__name__)

FileVersion = tuple[int, int, int, int]


class KeyRing:
    """Knows the keys of a server.

    Args:
        listed: keys that never change.
        path: of the file with the others.

    Raises:
        KeysError: the file cannot be read, or there are no keys at all.
    """

    def __init__(self, listed: tuple[APIKey, ...] = (), path: Path | None = None) -> None:
        self._listed = listed
        self._path = path
        self._version = None if path is None else version_of(path)
        self._keys = listed if path is None else self._with_those_of(path)
        if not self._keys:
            raise KeysError(WAYS_OUT)

    def caller_of(self, key: bytes) -> Caller | None:
        """Whose key this is; None if it is nobody's.

        It is compared with every key, each time in constant time and by its hash, so how long that takes tells neither
        how much of it was right nor whose it is.
        """
        digest, found = digest_of(key), None
        for known in self._keys:
            if hmac.compare_digest(digest, known.digest):
                found = known.caller
        return found

    async def refresh(self) -> None:
        """Read the file again if it has changed.

        One that cannot be read, or is none, changes nothing: a slip must not lock everybody out. One without keys is
        obeyed, for it may be meant.
        """
        if self._path is None:
            return
        # Of before the reading: a file that changes meanwhile is read once more.
        version = await asyncio.to_thread(version_of, self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = await asyncio.to_thread(self._with_those_of, self._path)
        except KeysError as error:
            logger.error("the keys stay as they were: %s", error)
        else:
            logger.info("%d API keys are in force", len(self._keys))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Refresh while this is open."""
        watching = asyncio.create_task(self._watch(), name="watch of the keys")
        try:
            yield
        finally:
            await end([watching])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.refresh()

    def _with_those_of(self, path: Path) -> tuple[APIKey, ...]:
        """All keys, with those of the file as it is now.

        Raises:
            KeysError: it cannot be read, or is none.
        """
        try:
            return distinct((*self._listed, *read_file(path.read_text(encoding="utf-8"))))
        except OSError as error:
            raise KeysError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise KeysError(f"{path}: not UTF-8") from None
        except KeysError as error:
            raise KeysError(f"{path}: {error}") from None


def open_keys(settings: AuthSettings) -> KeyRing | None:
    """The keys of the settings; None if none are asked for.

    Raises:
        KeysError: there are none, or they cannot be read.
    """
    if not settings.enabled:
        return None
    listed = read_list(settings.keys.get_secret_value()) if settings.keys is not None else ()
    return KeyRing(listed, settings.keys_file)


def version_of(path: Path) -> FileVersion | None:
    """Changes when the file does, or who may read it; None if there is none.

    Kubernetes replaces a mounted file by another one; rsync and the like keep the time at which it was written.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
