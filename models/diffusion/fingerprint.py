"""Telling checkpoints apart by their content."""

import hashlib
from pathlib import Path

_READ = {".json", ".safetensors"}


def checkpoint_id(folder: str | Path) -> str:
    """Sixteen hexadecimal digits that two ``diffusion`` folders share exactly when a decoder reads the same from both.

    Where they lie does not matter, so a server and its workers find each other wherever each has mounted them. Blocks
    for as long as it takes to read all weights.

    Raises:
        OSError: there is nothing to read.
    """
    folder = Path(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in _READ)
    if not files:
        raise FileNotFoundError(f"{folder} holds no checkpoint")
    digest = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()[:16]
