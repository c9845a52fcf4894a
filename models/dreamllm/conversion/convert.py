"""An official DreamLLM checkpoint to the layout that is served.

Weights are streamed: one tensor at a time is in memory, whatever the size of the checkpoint and its shards. The output
appears under its name only when it is whole.
"""

import json
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import torch
from diffusers import ModelMixin
from transformers import CLIPImageProcessorPil

from models.dreamllm.configuration import DreamLLMConfig
from models.dreamllm.conversion.architecture import (
    LANGUAGE_MODEL,
    Component,
    diffusion_components,
    diffusion_decoder,
    language_component,
    model_config,
)
from models.dreamllm.conversion.checkpoint import OfficialCheckpoint, Plugin, read_json
from models.dreamllm.conversion.errors import ConversionError
from models.dreamllm.conversion.inventory import Inventory, check_complete, check_copies, take_inventory
from models.dreamllm.conversion.report import ConversionReport
from models.dreamllm.conversion.safetensors_writer import (
    MAX_SHARD_BYTES,
    TensorWriter,
    num_bytes,
    write_safetensors,
)
from models.dreamllm.conversion.tensor_files import TensorInfo, open_tensors
from models.dreamllm.conversion.tokenizer import convert_tokenizer
from models.dreamllm.conversion.tokens import SpecialTokens, read_special_tokens
from models.dreamllm.processing import DreamLLMProcessor, dream_query_tokens

POOLED_BIAS = r"global_projector\.projector\.(\d+\.)?bias"

OnProgress = Callable[[int, int], None]
"""Called with the bytes written and all bytes to write."""


def convert(
    source: Path,
    target: Path,
    *,
    clip: Path | None = None,
    diffusion: Path | None = None,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_progress: OnProgress = lambda written, total: None,
) -> ConversionReport:
    """Convert a checkpoint.

    Args:
        source: the official checkpoint.
        target: folder to make; it may exist if it is empty.
        clip: folder with CLIP's configuration; by default the one that the checkpoint names.
        diffusion: folder with Stable Diffusion's configuration; likewise.
        dtype: of all weights; by default each has the dtype that it is stored in.
        max_shard_bytes: tensors of one output file at most, unless a single one is larger.
        on_progress: told how far it is.

    Raises:
        ConversionError: the checkpoint is not one that can be converted, or not into this folder. The target is left
            as it was.
    """
    started = time.monotonic()
    target = target.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConversionError(f"{target} exists; it will not be written over")
    checkpoint = OfficialCheckpoint.open(source, clip, diffusion)
    tokenizer_config = _tokenizer_config(source)
    special = read_special_tokens(source, checkpoint.config, tokenizer_config)
    config = model_config(checkpoint, special)
    inventory = take_inventory(checkpoint)
    pooled_bias = any(re.fullmatch(POOLED_BIAS, name) for name in inventory.tensors[Plugin.DIFFUSION])
    decoder = diffusion_decoder(checkpoint, config.text_config.hidden_size, pooled_bias)
    tied = checkpoint.config.get("tie_word_embeddings", False)
    tied = tied and "lm_head.weight" not in inventory.tensors[LANGUAGE_MODEL]
    components = [language_component(config, tied), *diffusion_components(decoder)]
    check_complete(components, inventory)
    tensors = [_tensors_to_write(component, inventory, dtype) for component in components]

    with _draft(target) as draft:
        _check_space(draft, sum(num_bytes(info) for infos in tensors for info in infos.values()))
        config.dtype = tensors[0]["model.language_model.embed_tokens.weight"].dtype
        _describe_language_model(draft, checkpoint, config, tokenizer_config, special)
        decoder.save_description(draft / "diffusion")
        for component in components[1:]:
            cast(ModelMixin, component.module).save_config(draft / component.folder)
        with ExitStack() as open_files:
            writers = [
                open_files.enter_context(
                    write_safetensors(draft / component.folder, component.stem, infos, max_shard_bytes)
                )
                for component, infos in zip(components, tensors, strict=True)
            ]
            _copy_tensors(components, writers, tensors, inventory, on_progress)
        check_copies(inventory)
    return _report(checkpoint, target, special, inventory, components, tensors, time.monotonic() - started)


def _tokenizer_config(source: Path) -> dict[str, object]:
    """``tokenizer_config.json``; what it does not say of special tokens, ``special_tokens_map.json`` does."""
    files = [source / "special_tokens_map.json", source / "tokenizer_config.json"]
    settings: dict[str, object] = {}
    for path in files:
        if path.is_file():
            settings |= {name: value for name, value in read_json(path).items() if value is not None}
    return settings


def _tensors_to_write(component: Component, inventory: Inventory, dtype: torch.dtype | None) -> dict[str, TensorInfo]:
    """The tensors of a component, in the dtype asked for, or else in that of the first official one that fills them."""
    infos = {}
    dtype = None if component.keeps_dtype else dtype
    for name, tensor in component.module.state_dict().items():
        first = component.origins[name][0]
        stored = inventory.tensors[first.source][first.name]
        infos[name] = TensorInfo(tuple(tensor.shape), dtype or stored.info.dtype)
    return infos


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A folder that becomes the target when all went well, and is gone when it did not."""
    draft = target.with_name(f".{target.name}.partial")
    if draft.exists():
        # Left by a conversion that was killed.
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.replace(target)
    except BaseException:
        shutil.rmtree(draft)
        raise


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConversionError(f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free beside the target")


def _describe_language_model(
    draft: Path,
    checkpoint: OfficialCheckpoint,
    config: DreamLLMConfig,
    tokenizer_config: Mapping[str, object],
    special: SpecialTokens,
) -> None:
    """Write configuration, tokenizer, chat template, image processor and generation config."""
    queries = dict(zip(dream_query_tokens(config.num_dream_queries), config.dream_query_token_ids, strict=True))
    tokenizer = convert_tokenizer(checkpoint.folder / "tokenizer.model", tokenizer_config, special, queries)
    tokenizer.model_max_length = config.text_config.max_position_embeddings
    image_processor = CLIPImageProcessorPil.from_pretrained(checkpoint.clip_folder, local_files_only=True)
    crop, side = dict(image_processor.crop_size), config.vision_config.image_size
    if crop != {"height": side, "width": side}:
        raise ConversionError(f"{checkpoint.clip_folder} prepares pictures of {crop} for a tower that reads {side}")
    config.architectures = ["DreamLLMForConditionalGeneration"]
    config.save_pretrained(draft)
    DreamLLMProcessor(
        image_processor,
        tokenizer,
        num_image_tokens=config.num_image_tokens,
        num_dream_queries=config.num_dream_queries,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(draft)
    path = checkpoint.folder / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (draft / "generation_config.json").write_text(json.dumps(generation | ids, indent=2, sort_keys=True) + "\n")


def _copy_tensors(
    components: Sequence[Component],
    writers: Sequence[TensorWriter],
    tensors: Sequence[Mapping[str, TensorInfo]],
    inventory: Inventory,
    on_progress: OnProgress,
) -> None:
    """Copy file by file, so that no more than one of them is mapped at a time.

    Raises:
        ConversionError: a number does not fit the dtype asked for.
    """
    copies = defaultdict(list)
    for component, writer in zip(components, writers, strict=True):
        for name, origins in component.origins.items():
            for origin in origins:
                stored = inventory.tensors[origin.source][origin.name]
                copies[stored.path].append((stored.name, writer, name, origin))
    total = sum(num_bytes(info) for infos in tensors for info in infos.values())
    written = 0
    on_progress(written, total)
    for path, wanted in copies.items():
        with open_tensors(path) as file:
            for stored_name, writer, name, origin in wanted:
                tensor = file.load(stored_name)
                if origin.name == "dream_queries":
                    tensor = tensor[0]
                try:
                    written += writer.write(name, tensor, origin.first_row)
                except OverflowError as error:
                    raise ConversionError(f"{path.name}: {error}") from error
                on_progress(written, total)
    on_progress(total, total)


def _report(
    checkpoint: OfficialCheckpoint,
    target: Path,
    special: SpecialTokens,
    inventory: Inventory,
    components: Sequence[Component],
    tensors: Sequence[Mapping[str, TensorInfo]],
    seconds: float,
) -> ConversionReport:
    derived = {stored.name for stored in inventory.derived}
    read = Counter(
        stored.path.name
        for held in inventory.tensors.values()
        for stored in held.values()
        if stored.name not in derived
    )
    ignored = dict.fromkeys(sorted(derived), "buffers that follow from the configuration")
    for plugin, held in inventory.copies.items():
        reason = f"copies of {plugin}.bin, equal to it"
        ignored |= {stored.name: reason for stored in held.values() if stored.name not in derived}
    dtypes: Counter[str] = Counter()
    for infos in tensors:
        for info in infos.values():
            dtypes[str(info.dtype).removeprefix("torch.")] += num_bytes(info)
    return ConversionReport(
        source=str(checkpoint.folder),
        target=str(target),
        files=dict(read),
        clip_config=str(checkpoint.clip_folder),
        diffusion_config=str(checkpoint.diffusion_folder),
        special_tokens=dict(special.ids),
        ignored_tensors=ignored,
        ignored_files=tuple(checkpoint.other_files()),
        parameters={
            component.folder: sum(tensor.numel() for tensor in component.module.state_dict().values())
            for component in components
        },
        dtypes=dict(dtypes),
        seconds=round(seconds, 3),
    )
