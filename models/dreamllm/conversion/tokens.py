"""The ids of an official checkpoint's special tokens.

They are read, never assumed: the official code puts its tokens through a set on their way into the tokenizer, so that
their order depends on the version of transformers that it ran with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.dreamllm.conversion.checkpoint import read_json
from models.dreamllm.conversion.errors import ConversionError

IMAGE_PATCH = "<im_patch>"
IMAGE_START = "<im_start>"
IMAGE_END = "<im_end>"
DREAM_START = "<dream_start>"
DREAM_END = "<dream_end>"
NEEDED = (IMAGE_PATCH, IMAGE_START, IMAGE_END, DREAM_START, DREAM_END)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Special tokens by their part in the model.

    Attributes:
        ids: id of every special token, sentencepiece's own included.
        bos: begins a sequence.
        eos: ends it.
        unk: stands for what cannot be written otherwise.
        pad: fills up a batch.
    """

    ids: Mapping[str, int]
    bos: str
    eos: str
    unk: str
    pad: str


def read_special_tokens(folder: Path, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> SpecialTokens:
    """What the model (``config.json``) and the tokenizer (its own files) agree on.

    Raises:
        ConversionError: they disagree, or a token that the model needs has no id.
    """
    ids = _tokenizer_ids(folder, tokenizer_config)
    of_model = _model_ids(config)
    conflicts = [
        f"{token} is {ids[token]} in the tokenizer and {of_model[token]} in config.json"
        for token in sorted(ids.keys() & of_model.keys())
        if ids[token] != of_model[token]
    ]
    if conflicts:
        raise ConversionError("the ids of special tokens disagree: " + "; ".join(conflicts))
    ids |= of_model
    roles = {name: _content(tokenizer_config.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")}
    absent = [f"{name}_token" for name, token in roles.items() if token is None]
    absent += [token for token in (*NEEDED, *roles.values()) if token is not None and token not in ids]
    if absent:
        raise ConversionError(f"neither config.json nor the tokenizer's files have an id of {', '.join(absent)}")
    return SpecialTokens(ids, **{name: str(token) for name, token in roles.items()})


def _tokenizer_ids(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, int]:
    ids = {token["content"]: int(i) for i, token in (tokenizer_config.get("added_tokens_decoder") or {}).items()}
    if (folder / "added_tokens.json").is_file():
        ids |= read_json(folder / "added_tokens.json")
    return ids


def _model_ids(config: Mapping[str, Any]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for token, token_id in (config.get("special_tokens2ids_dict") or {}).items():
        ids |= token_id if isinstance(token_id, dict) else {token: token_id}
    return ids


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    return token if token is None or isinstance(token, str) else str(token["content"])
