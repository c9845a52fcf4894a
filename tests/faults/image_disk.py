"""A disk for pictures that can be full."""

import os
import resource
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = "256k"
BLOCK = 4096


class ImageDisk:
    """A folder in which a server keeps pictures.

    Whoever may mount gets a file system of its own for it, which really fills up. Otherwise the kernel is told to let
    the server write no byte to any file: other than a full disk that also holds for its log.

    Args:
        folder: is there, and empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "dreamserve-test", folder]
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
        self._mounted = mounted.returncode == 0
        if not self._mounted:
            warnings.warn(
                f"no file system can be mounted here ({mounted.stderr.strip()}): instead of a full disk, the server "
                "meets a limit of 0 bytes for its files",
                stacklevel=2,
            )

    def close(self) -> None:
        """Give back what was mounted."""
        if self._mounted:
            subprocess.run(["umount", self.folder], check=True)

    @contextmanager
    def full(self, server: int) -> Iterator[None]:
        """No room, for as long as the context lasts, for what the process of this id writes."""
        if self._mounted:
            filler = self.folder / "something-else"
            fill(filler)
            try:
                yield
            finally:
                filler.unlink()
        else:
            before = resource.prlimit(server, resource.RLIMIT_FSIZE)
            resource.prlimit(server, resource.RLIMIT_FSIZE, (0, before[1]))
            try:
                yield
            finally:
                resource.prlimit(server, resource.RLIMIT_FSIZE, before)

    def pictures(self) -> list[str]:
        """Names of the files of pictures, whole or not."""
        return [file.name for file in self.folder.glob("file_*")]


def fill(file: Path) -> None:
    """Write until there is no room."""
    with file.open("wb", buffering=0) as output, suppress(OSError):
        while True:
            output.write(os.urandom(BLOCK))
