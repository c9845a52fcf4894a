"""Pictures as files, through fsspec."""

import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.files.base import StorageError, new_image_id
from server.files.filesystem import FilesystemImageStore
from server.files.opening import open_image_store
from server.settings import Settings

TTL_S = 60.0


@asynccontextmanager
async def file_store(url: str) -> AsyncIterator[FilesystemImageStore]:
    """A store of a server process."""
    store = FilesystemImageStore(url, TTL_S)
    await store.open()
    try:
        yield store
    finally:
        store.close()


def grow_old(path: Path, seconds: float) -> None:
    """Make a file that much older."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def names(folder: Path) -> set[str]:
    """Of the files in a folder."""
    return {path.name for path in folder.iterdir()}


async def test_each_picture_is_a_plain_file(tmp_path: Path) -> None:
    id = new_image_id()
    async with file_store(tmp_path.as_uri()) as store:
        await store.put(id, b"picture")

    assert names(tmp_path) == {id}
    assert (tmp_path / id).read_bytes() == b"picture"


async def test_other_processes_have_the_picture_too(tmp_path: Path) -> None:
    id = new_image_id()
    async with file_store(tmp_path.as_uri()) as writer, file_store(tmp_path.as_uri()) as reader:
        await reader.sweep()
        await writer.put(id, b"picture")

        assert await reader.get(id) is not None


async def test_any_file_system_of_fsspec_will_do() -> None:
    id = new_image_id()
    async with file_store(f"memory://{new_image_id()}/pictures") as store:
        await store.put(id, b"picture")
        await store.sweep()
        stored = await store.get(id)

    assert stored is not None
    assert stored.data == b"picture"


async def test_an_old_picture_is_not_served_although_its_file_is_there(tmp_path: Path) -> None:
    id = new_image_id()
    async with file_store(tmp_path.as_uri()) as store:
        await store.put(id, b"picture")
        grow_old(tmp_path / id, TTL_S - 5)
        assert await store.get(id) is not None

        grow_old(tmp_path / id, TTL_S + 5)
        assert await store.get(id) is None


async def test_a_sweep_deletes_old_pictures_and_nothing_else(tmp_path: Path) -> None:
    new, old, foreign = new_image_id(), new_image_id(), "holiday.png"
    async with file_store(tmp_path.as_uri()) as writer:
        await writer.put(new, b"new")
        await writer.put(old, b"old")
    (tmp_path / foreign).write_bytes(b"not ours")
    for name in (old, foreign):
        grow_old(tmp_path / name, TTL_S + 5)

    async with file_store(tmp_path.as_uri()) as store:
        await store.sweep()

    assert names(tmp_path) == {new, foreign}


async def test_a_server_sweeps_by_itself(tmp_path: Path) -> None:
    old = tmp_path / new_image_id()
    old.write_bytes(b"left by a server that is no more")
    grow_old(old, TTL_S + 5)

    async with open_image_store(Settings(files={"target": tmp_path.as_uri(), "ttl_s": TTL_S})) as store:
        while old.exists():
            await store.get(new_image_id())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full"),
        (PermissionError(errno.EACCES, "Permission denied"), "storage_failed"),
        (RuntimeError("the package behind fsspec has errors of its own"), "storage_failed"),
    ],
)
async def test_what_could_not_be_written_leaves_nothing(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with file_store(tmp_path.as_uri()) as store:

        def write_half(path: str, data: bytes) -> None:
            Path(path).write_bytes(data[: len(data) // 2])
            raise error

        monkeypatch.setattr(store._fs, "pipe_file", write_half)
        with pytest.raises(StorageError) as failed:
            await store.put(new_image_id(), b"picture")

    assert failed.value.code == code
    assert not names(tmp_path)


async def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")

    with pytest.raises(StorageError):
        async with open_image_store(Settings(files={"target": (tmp_path / "file" / "pictures").as_uri()})):
            pass


async def test_a_url_that_nobody_understands_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        async with open_image_store(Settings(files={"target": "nonsense://pictures"})):
            pass
