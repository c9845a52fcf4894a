"""The files that weights of official checkpoints come in: safetensors, and pickles of state dicts.

Both are mapped into memory, not read: a tensor costs memory from its :meth:`~TensorFile.load` until it is dropped.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from models.dreamllm.conversion.errors import ConversionError

SAFETENSORS_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a file says of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorFile(Protocol):
    """An open file of named tensors."""

    def infos(self) -> dict[str, TensorInfo]:
        """All tensors of the file."""
        ...

    def load(self, name: str) -> torch.Tensor:
        """One of them, on the CPU; possibly a view of the file, so not to be written to."""
        ...


class _Safetensors:
    def __init__(self, opened: Any, path: Path) -> None:
        self._opened = opened
        self._path = path

    def infos(self) -> dict[str, TensorInfo]:
        return {name: self._info(name) for name in self._opened.keys()}  # noqa: SIM118 - not a dict

    def load(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._opened.get_tensor(name)
        return tensor

    def _info(self, name: str) -> TensorInfo:
        view = self._opened.get_slice(name)
        dtype = SAFETENSORS_DTYPES.get(view.get_dtype())
        if dtype is None:
            raise ConversionError(f"{self._path}: {name} is stored as {view.get_dtype()}, which is not supported")
        return TensorInfo(tuple(view.get_shape()), dtype)


class _Pickle:
    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def infos(self) -> dict[str, TensorInfo]:
        return {name: TensorInfo(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()}

    def load(self, name: str) -> torch.Tensor:
        return self._tensors[name].detach()


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors: safetensors by its suffix, anything else as ``torch.save`` of a state dict.

    Raises:
        ConversionError: it is neither, or the pickle holds more than tensors; nothing of it is executed.
    """
    if path.suffix == ".safetensors":
        try:
            opened = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{path} cannot be read: {error}") from error
        with opened:
            yield _Safetensors(opened, path)
        return
    try:
        # Only the zip format, torch's since 1.6, can be mapped.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ConversionError(f"{path} is not a state dict: it holds something other than named tensors")
    yield _Pickle(tensors)
