"""A checkpoint as the official DreamLLM code saves it: where its files are and what its configuration says.

The layout: ``save_pretrained`` of RunpeiDong/DreamLLM at 9dc7677. The language model is in ``model.safetensors``, in
shards with an index, or in one ``pytorch_model.bin`` (saved under FSDP, with a copy of every plugin's weights); each
plugin has a ``.bin`` of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from huggingface_hub import try_to_load_from_cache

from models.dreamllm.conversion.errors import ConversionError

LANGUAGE_MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# With it the official code would replace the queries of dream_embedding.bin, whatever it holds.
LEGACY_QUERIES = "dream_queries.pt"


class Plugin(StrEnum):
    """A part of the model that the official code keeps in a file of its own."""

    DREAM = "dream_embedding"
    CLIP = "clip_vision_embedding"
    DIFFUSION = "stable_diffusion_head"

    @property
    def key_prefixes(self) -> tuple[str, ...]:
        """What the names of its weights begin with in a ``pytorch_model.bin``."""
        return (f"{self}.", f"{XL_HEAD}.") if self is Plugin.DIFFUSION else (f"model.{self}.",)


# The diffusion plugin of DreamLLM-SDXL: name of its file, and perhaps of its key.
XL_HEAD = "stable_diffusion_xl_head"
XL_CLASS = "StableDiffusionXLHead"


@dataclass(frozen=True, slots=True)
class OfficialCheckpoint:
    """The parts of a checkpoint.

    Attributes:
        folder: where it is.
        config: its ``config.json``.
        language_files: the files of the language model's weights.
        plugin_files: the file of each plugin's weights.
        clip_folder: holds ``config.json`` and ``preprocessor_config.json`` of CLIP.
        diffusion_folder: holds the configs of ``unet``, ``vae`` and ``scheduler``.
    """

    folder: Path
    config: Mapping[str, Any]
    language_files: tuple[Path, ...]
    plugin_files: Mapping[Plugin, Path]
    clip_folder: Path
    diffusion_folder: Path

    @classmethod
    def open(cls, folder: Path, clip: Path | None = None, diffusion: Path | None = None) -> Self:
        """Find the parts.

        Args:
            folder: the checkpoint.
            clip: CLIP's folder; by default the one that the checkpoint names, if it is on this machine.
            diffusion: Stable Diffusion's folder; likewise.

        Raises:
            ConversionError: parts are missing. Names all of them.
        """
        config = read_json(folder / "config.json")
        language_files, absent = _language_files(folder)
        init = _plugin_arguments(config)
        plugin_files = {plugin: folder / f"{plugin}.bin" for plugin in Plugin}
        if _is_xl(init):
            plugin_files[Plugin.DIFFUSION] = folder / f"{XL_HEAD}.bin"
        absent += [path.name for path in plugin_files.values() if not path.is_file()]
        absent += [name for name in ("tokenizer.model",) if not (folder / name).is_file()]
        if absent:
            raise ConversionError(f"{folder} is incomplete; it has no {', '.join(absent)}")
        if (folder / LEGACY_QUERIES).exists():
            raise ConversionError(
                f"{folder} has both dream_embedding.bin and {LEGACY_QUERIES}, an older file that the official code "
                "prefers: remove the one that is not meant"
            )
        return cls(
            folder=folder,
            config=config,
            language_files=language_files,
            plugin_files=plugin_files,
            clip_folder=_config_folder(
                folder,
                init[Plugin.CLIP]["clip_vision_model_name_or_path"],
                given=clip,
                option="--clip",
                needed=("config.json", "preprocessor_config.json"),
            ),
            diffusion_folder=_config_folder(
                folder,
                init[Plugin.DIFFUSION]["diffusion_name_or_path"],
                given=diffusion,
                option="--diffusion",
                needed=("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"),
            ),
        )

    def plugin_arguments(self, plugin: Plugin) -> Mapping[str, Any]:
        """What the official code makes a plugin with."""
        arguments: Mapping[str, Any] = _plugin_arguments(self.config)[plugin]
        return arguments

    @property
    def is_xl(self) -> bool:
        """Whether it draws with Stable Diffusion XL."""
        return _is_xl(_plugin_arguments(self.config))

    def other_files(self) -> list[str]:
        """Weights and pickles in the folder that are not read, such as a second copy in another layout."""
        read = {*self.language_files, *self.plugin_files.values()}
        suffixes = {".safetensors", ".bin", ".pt", ".pth"}
        return sorted(p.name for p in self.folder.iterdir() if p.suffix in suffixes and p not in read)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        ConversionError: there is none.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConversionError(f"there is no {path}") from error
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} does not hold an object")
    return content


def _language_files(folder: Path) -> tuple[tuple[Path, ...], list[str]]:
    """The files of the language model, in the official order of preference, and the names of those that are missing."""
    for name in LANGUAGE_MODEL_FILES:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return (folder / name,), []
        names = sorted(set(read_json(folder / name).get("weight_map", {}).values()))
        outside = [shard for shard in names if Path(shard).name != shard]
        if outside or not names:
            raise ConversionError(f"{folder / name} is not an index of files beside it")
        return tuple(folder / shard for shard in names), [shard for shard in names if not (folder / shard).is_file()]
    return (), ["model.safetensors (nor an index of shards, nor pytorch_model.bin)"]


def _plugin_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(config.get("plugins_init_kwargs") or {})
    if XL_HEAD in arguments:
        arguments[Plugin.DIFFUSION] = arguments[XL_HEAD]
    absent = [plugin for plugin in Plugin if plugin not in arguments]
    if absent:
        raise ConversionError(
            f"config.json is not that of a DreamLLM: its plugins_init_kwargs have no {', '.join(absent)}"
        )
    return arguments


def _is_xl(arguments: Mapping[str, Any]) -> bool:
    return str(arguments[Plugin.DIFFUSION].get("_target_", "")).endswith(XL_CLASS)


def _config_folder(checkpoint: Path, name: str, given: Path | None, option: str, needed: tuple[str, ...]) -> Path:
    """Where the configs of a pretrained part are: given, a folder in the checkpoint, any folder, the Hub's cache."""
    cached = None if Path(name).is_absolute() or name.count("/") != 1 else try_to_load_from_cache(name, needed[0])
    candidates = [given] if given is not None else [checkpoint / name, Path(name)]
    if given is None and isinstance(cached, str):
        candidates.append(Path(cached.removesuffix(needed[0])))
    for folder in candidates:
        if folder.is_dir():
            absent = [file for file in needed if not (folder / file).is_file()]
            if absent:
                raise ConversionError(f"{folder} has no {', '.join(absent)} ({option} names another folder)")
            return folder
    if given is not None:
        raise ConversionError(f"{option}: there is no folder {given}")
    raise ConversionError(
        f"the checkpoint needs the configuration of {name!r}, which is not on this machine: give a folder with "
        f"{', '.join(needed)} by {option}, or run: hf download {name} {' '.join(needed)}"
    )
