"""Readers of files, by what configurations say about them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from webdataset.shardlists import expand_urls  # type: ignore[import-untyped]

from models.training.readers.json_records import JsonRecords
from models.training.readers.layouts import LAYOUTS
from models.training.readers.reader import Reader
from models.training.readers.tar_shard import TarShard


def read_webdataset(pattern: str, layout: str, seed: int) -> Reader:
    """WebDataset shards.

    Args:
        pattern: path of the tar files, with braces as in ``mmc4/{00000..00127}.tar``; several are joined by ``::``.
        layout: ``pair`` or ``interleaved``, see :data:`LAYOUTS`.
        seed: decides the order.

    Raises:
        FileNotFoundError: a shard is missing.
    """
    return Reader([TarShard(path, LAYOUTS[layout]) for path in present(map(Path, expand_urls(pattern)))], seed)


def read_json(files: Sequence[Path], pictures: Path, layout: str, seed: int) -> Reader:
    """JSON records: one to a line, as MMC4 has them, or all in one list, as LLaVA has.

    Args:
        files: of records.
        pictures: folder that names of pictures are relative to.
        layout: ``pair``, ``interleaved`` or ``conversation``, see :data:`LAYOUTS`.
        seed: decides the order.

    Raises:
        FileNotFoundError: a file is missing.
    """
    return Reader([JsonRecords(path, pictures, LAYOUTS[layout]) for path in present(files)], seed)


def present(paths: Iterable[Path]) -> list[Path]:
    """The paths, if there is a file at each."""
    found = list(paths)
    for path in found:
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}")
    return found
