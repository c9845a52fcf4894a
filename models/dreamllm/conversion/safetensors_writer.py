"""Writes safetensors tensor by tensor, in any order, so that the memory needed is that of one tensor.

The format: https://github.com/huggingface/safetensors#format. Everything in a file but the numbers follows from names,
shapes and dtypes, so that the same tensors give the same bytes, whatever the order they come in.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch

from models.dreamllm.conversion.tensor_files import SAFETENSORS_DTYPES, TensorInfo

MAX_SHARD_BYTES = 5 * 10**9
_DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
_HEADER_ALIGNMENT = 8


def num_bytes(info: TensorInfo) -> int:
    """Size of a tensor in a file."""
    return prod(info.shape) * info.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies: its file, its first byte there, and what it is."""

    file: BinaryIO
    offset: int
    info: TensorInfo


class TensorWriter:
    """Fills files whose tensors are known. What is never written is zero."""

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self._places = places

    def write(self, name: str, tensor: torch.Tensor, first_row: int = 0) -> int:
        """Write a tensor, or some rows of one, in the dtype that was announced; bytes written.

        Raises:
            OverflowError: a number is too large for that dtype.
        """
        place = self._places[name]
        cast = tensor.to(place.info.dtype)
        if cast.dtype != tensor.dtype and not torch.isfinite(cast).all():
            raise OverflowError(f"{name} has numbers that {str(place.info.dtype).removeprefix('torch.')} cannot hold")
        row_bytes = num_bytes(place.info) // place.info.shape[0]
        place.file.seek(place.offset + first_row * row_bytes)
        return place.file.write(cast.contiguous().reshape(-1).view(torch.uint8).numpy().data)


@contextmanager
def write_safetensors(
    folder: Path, stem: str, tensors: Mapping[str, TensorInfo], max_shard_bytes: int = MAX_SHARD_BYTES
) -> Iterator[TensorWriter]:
    """Create ``stem.safetensors``; above ``max_shard_bytes`` several, and their index, named as Hugging Face does."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(tensors, max_shard_bytes)
    names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [f"{stem}.safetensors"]
    else:
        index = {
            "metadata": {"total_size": sum(map(num_bytes, tensors.values()))},
            "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
        }
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    with ExitStack() as files:
        places: dict[str, _Place] = {}
        for name, shard in zip(names, shards, strict=True):
            places |= _begin(files.enter_context((folder / name).open("wb")), shard)
        yield TensorWriter(places)


def _shards(tensors: Mapping[str, TensorInfo], max_bytes: int) -> list[dict[str, TensorInfo]]:
    """The tensors in order of their names, cut where a file would grow past the limit."""
    shards: list[dict[str, TensorInfo]] = [{}]
    size = 0
    for name, info in sorted(tensors.items()):
        if shards[-1] and size + num_bytes(info) > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = info
        size += num_bytes(info)
    return shards


def _begin(file: BinaryIO, tensors: Mapping[str, TensorInfo]) -> dict[str, _Place]:
    """Write the header and give the file its full size. Widest dtypes come first, so that each tensor is aligned."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        offsets[name], end = end, end + num_bytes(info)
        header[name] = {
            "dtype": _DTYPE_NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    start = file.tell()
    file.truncate(start + end)
    return {name: _Place(file, start + offsets[name], info) for name, info in tensors.items()}
