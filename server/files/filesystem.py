"""Pictures as files: in a local folder, an object store, or whatever else fsspec can write to."""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from fsspec.core import url_to_fs

from server.files.base import IMAGE_ID, StorageError, StoredImage, new_image_id

THREADS = 8  # of their own, so that a slow store holds up nothing but pictures
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no room on the disk, for this user, for this process

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class FilesystemImageStore:
    """Keeps each picture as a plain file, named by its id. Its age is that of the file.

    So every process that shares the target serves and, in time, deletes what any of them wrote. What else lies there
    is left alone.

    Args:
        url: of a folder, as fsspec understands it; made if it is not there.
        ttl_s: how long a picture is kept.

    Raises:
        ValueError: there is no file system of this kind, or it takes other options.
        ImportError: the package for it is not installed.
    """

    def __init__(self, url: str, ttl_s: float) -> None:
        self._fs, root = url_to_fs(url)
        self._root = root.rstrip("/")
        # Listings are remembered, and a remembered one hides what other processes wrote after it: the sweep lists by
        # a file system of its own.
        self._swept, _ = url_to_fs(url, skip_instance_cache=True)
        self._ttl_s = ttl_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="image-files")

    async def open(self) -> None:
        """Make the folder, and prove that pictures can be written there, found and deleted.

        Raises:
            StorageError: they cannot.
        """
        await self._on_thread(self._prove, "the store of pictures cannot be used")

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, id: str, data: bytes) -> None:
        await self._on_thread(lambda: self._write(id, data), "the picture could not be stored")

    async def get(self, id: str) -> StoredImage | None:
        return await self._on_thread(lambda: self._read(id), "the store of pictures cannot be read")

    async def delete(self, ids: Sequence[str]) -> None:
        await self._on_thread(lambda: self._delete(ids), "the pictures could not be deleted")

    async def sweep(self) -> None:
        """Delete what has expired, whoever wrote it.

        Raises:
            StorageError: not all of it could be deleted.
        """
        await self._on_thread(self._delete_expired, "expired pictures could not be deleted")

    async def _on_thread(self, work: Callable[[], Result], failure: str) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Exception as error:  # not OSError alone: the packages behind fsspec raise errors of their own
            logger.warning("%s: %r", failure, error)
            full = isinstance(error, OSError) and error.errno in FULL
            raise StorageError("storage_full" if full else "storage_failed", failure) from error

    def _path(self, id: str) -> str:
        return f"{self._root}/{id}"

    def _prove(self) -> None:
        self._fs.makedirs(self._root, exist_ok=True)
        probe = new_image_id()
        self._write(probe, b"probe")
        try:
            self._seconds_left(probe)
        finally:
            self._fs.rm_file(self._path(probe))

    def _write(self, id: str, data: bytes) -> None:
        try:
            self._fs.pipe_file(self._path(id), data)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(self._path(id))
            raise

    def _read(self, id: str) -> StoredImage | None:
        try:
            seconds_left = self._seconds_left(id)
            return StoredImage(self._fs.cat_file(self._path(id)), seconds_left) if seconds_left > 0 else None
        except FileNotFoundError:
            return None

    def _delete(self, ids: Sequence[str]) -> None:
        for id in ids:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(id))

    def _seconds_left(self, id: str) -> float:
        written: float = self._fs.modified(self._path(id)).timestamp()
        return written + self._ttl_s - time.time()

    def _delete_expired(self) -> None:
        self._swept.invalidate_cache()
        oldest_kept = time.time() - self._ttl_s
        for path in self._swept.ls(self._root, detail=False):
            if not IMAGE_ID.fullmatch(path.rsplit("/", 1)[-1]):
                continue
            with suppress(FileNotFoundError):  # another process may sweep too
                if self._swept.modified(path).timestamp() <= oldest_kept:
                    self._swept.rm_file(path)
