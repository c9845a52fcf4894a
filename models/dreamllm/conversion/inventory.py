"""What a checkpoint's files hold, held against what the model needs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from models.dreamllm.conversion.architecture import LANGUAGE_MODEL, Component, Origin, Source
from models.dreamllm.conversion.checkpoint import OfficialCheckpoint, Plugin
from models.dreamllm.conversion.errors import ConversionError
from models.dreamllm.conversion.tensor_files import TensorInfo, open_tensors

# Buffers that some versions of transformers saved. What they hold follows from the configuration.
DERIVED_BUFFERS = re.compile(
    r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|clip_vision_model\.vision_model\.embeddings\.position_ids"
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file."""

    path: Path
    name: str
    info: TensorInfo


@dataclass(frozen=True, slots=True)
class Inventory:
    """All tensors of a checkpoint.

    Attributes:
        tensors: by part of the checkpoint, then by their names in it.
        copies: plugins' tensors that the language model's file carries too.
    """

    tensors: Mapping[Source, Mapping[str, StoredTensor]]
    copies: Mapping[Source, Mapping[str, StoredTensor]]

    @property
    def derived(self) -> list[StoredTensor]:
        """Tensors that nobody needs to read."""
        everything = [
            stored for part in (self.tensors, self.copies) for held in part.values() for stored in held.items()
        ]
        return [stored for name, stored in everything if DERIVED_BUFFERS.fullmatch(name)]


def take_inventory(checkpoint: OfficialCheckpoint) -> Inventory:
    """Read names, shapes and dtypes of all files, and no numbers.

    Raises:
        ConversionError: a file cannot be read, or two have the same tensor.
    """
    tensors: dict[Source, dict[str, StoredTensor]] = {part: {} for part in (LANGUAGE_MODEL, *Plugin)}
    copies: dict[Source, dict[str, StoredTensor]] = {plugin: {} for plugin in Plugin}
    for path in checkpoint.language_files:
        for stored in _stored(path):
            owner, prefix = _owner(stored.name)
            if owner is not None:
                copies[owner][stored.name.removeprefix(prefix)] = stored
            elif stored.name in tensors[LANGUAGE_MODEL]:
                first = tensors[LANGUAGE_MODEL][stored.name].path.name
                raise ConversionError(f"{stored.name} is both in {first} and in {path.name}")
            else:
                tensors[LANGUAGE_MODEL][stored.name] = stored
    for plugin, path in checkpoint.plugin_files.items():
        tensors[plugin] = {stored.name: stored for stored in _stored(path)}
    return Inventory(tensors, copies)


def check_complete(components: Iterable[Component], inventory: Inventory) -> None:
    """Nothing is missing, nothing is left over, every shape is right, in the plugins' copies too.

    Raises:
        ConversionError: lists all that is wrong.
    """
    needed: dict[Source, dict[str, Origin]] = {part: {} for part in inventory.tensors}
    for component in components:
        for origins in component.origins.values():
            for origin in origins:
                needed[origin.source][origin.name] = origin
    problems: list[str] = []
    for source, held in inventory.tensors.items():
        problems += _differences(source, needed[source], held)
    for source, held in inventory.copies.items():
        if held:
            problems += _differences(f"copy of {source}", needed[source], held)
    if problems:
        raise ConversionError("the weights are not those of the configuration:\n  " + "\n  ".join(problems))


def check_copies(inventory: Inventory) -> None:
    """The copies that the language model's file has of the plugins equal the plugins' own files.

    Raises:
        ConversionError: lists those that do not. Which of the two the official code meant cannot be known.
    """
    for plugin, copies in inventory.copies.items():
        if not copies:
            continue
        (own_path,) = {stored.path for stored in inventory.tensors[plugin].values()}
        different = []
        for path in {stored.path for stored in copies.values()}:
            with open_tensors(path) as theirs, open_tensors(own_path) as own:
                for name, stored in copies.items():
                    if stored.path == path and not _equal(theirs.load(stored.name), own.load(name)):
                        different.append(name)
        if different:
            raise ConversionError(f"{own_path.name} and {path.name} have different weights of {', '.join(different)}")


def _owner(name: str) -> tuple[Plugin | None, str]:
    """The plugin that a tensor of a ``pytorch_model.bin`` belongs to, and what its name begins with there."""
    for plugin in Plugin:
        for prefix in plugin.key_prefixes:
            if name.startswith(prefix):
                return plugin, prefix
    return None, ""


def _equal(copy: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether two tensors are the same, as far as the coarser of their dtypes can tell."""
    narrow = min(copy.dtype, own.dtype, key=lambda dtype: dtype.itemsize)
    return torch.equal(copy.to(narrow), own.to(narrow))


def _stored(path: Path) -> list[StoredTensor]:
    with open_tensors(path) as file:
        return [StoredTensor(path, name, info) for name, info in file.infos().items()]


def _differences(source: str, needed: Mapping[str, Origin], held: Mapping[str, StoredTensor]) -> list[str]:
    found = {name: stored for name, stored in held.items() if not DERIVED_BUFFERS.fullmatch(name)}
    return [
        *(f"{source}: missing {name} {list(needed[name].shape)}" for name in sorted(needed.keys() - found.keys())),
        *(f"{source}: unexpected {name}" for name in sorted(found.keys() - needed.keys())),
        *(
            f"{source}: {name} has shape {list(found[name].info.shape)}, not {list(origin.shape)}"
            for name, origin in sorted(needed.items())
            if name in found and found[name].info.shape != origin.shape
        ),
        *(
            f"{source}: {name} has dtype {stored.info.dtype}"
            for name, stored in sorted(found.items())
            if not stored.info.dtype.is_floating_point
        ),
    ]
