"""What a conversion read, wrote and left alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

GB = 10**9


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """The record of one conversion.

    Attributes:
        source: the official checkpoint.
        target: what was written.
        files: for each file of weights, the number of tensors read from it.
        clip_config: folder of CLIP's configuration.
        diffusion_config: folder of Stable Diffusion's configuration.
        special_tokens: their ids, as the checkpoint has them.
        ignored_tensors: tensors that were not read, and why.
        ignored_files: files of weights in the source that were not read.
        parameters: by component, the numbers of parameters written.
        dtypes: by dtype, the bytes written.
        seconds: how long it took.
    """

    source: str
    target: str
    files: Mapping[str, int]
    clip_config: str
    diffusion_config: str
    special_tokens: Mapping[str, int]
    ignored_tensors: Mapping[str, str]
    ignored_files: tuple[str, ...]
    parameters: Mapping[str, int]
    dtypes: Mapping[str, int]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As an object for a file."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        ignored: dict[str, int] = {}
        for reason in self.ignored_tensors.values():
            ignored[reason] = ignored.get(reason, 0) + 1
        return [
            *(f"read     {count:5} tensors from {name}" for name, count in self.files.items()),
            f"         configuration of CLIP from {self.clip_config}",
            f"         configuration of Stable Diffusion from {self.diffusion_config}",
            "         special tokens "
            + ", ".join(f"{token} {token_id}" for token, token_id in sorted(self.special_tokens.items(), key=_by_id)),
            *(f"ignored  {count:5} tensors: {reason}" for reason, count in ignored.items()),
            *(f"ignored  {name}: not a part of the layout that was read" for name in self.ignored_files),
            *(f"wrote    {count / 1e6:10,.2f} M parameters to {name}" for name, count in self.parameters.items()),
            f"         {sum(self.dtypes.values()) / GB:.3f} GB ({', '.join(self.dtypes)}) in {self.seconds:.1f} s",
        ]


def _by_id(item: tuple[str, int]) -> int:
    return item[1]
