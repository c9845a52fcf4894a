"""Attention heads of sizes that vLLM's kernels lack, as heads of the next size that they have.

A head of ``d`` dimensions becomes one of ``D``, the new ones zero in queries, keys and values, so that scores and
states stay what they were. Three things follow from ``D`` elsewhere and are made up for:

- rotary embeddings turn dimension ``i`` of a head's first half with ``i`` of its second by ``theta ** (-2i / d)``: each
  half is padded by itself, and ``theta`` becomes ``theta ** (D / d)``;
- scores are divided by ``sqrt(D)``: queries are multiplied by ``sqrt(D / d)``.
"""

import copy
import re
from collections.abc import Iterable, Iterator

import torch
from transformers import LlamaConfig

# What the kernels for CPUs can do; those for GPUs can do all of these.
HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)
_ATTENTION = re.compile(r"language_model\.layers\.\d+\.self_attn\.(?P<projection>[qkvo])_proj\.(weight|bias)$")
_SCALED_ROPE = ("default", "linear", "llama3")


class HeadPadding:
    """Pads the heads of a Llama, if it must.

    Args:
        config: the Llama's.

    Raises:
        ValueError: its heads cannot be padded.

    Attributes:
        config: of the Llama that vLLM runs.
    """

    def __init__(self, config: LlamaConfig) -> None:
        self._size: int = config.head_dim
        self._padded_size = next((size for size in HEAD_SIZES if size >= self._size), 0)
        self.config = config
        if self._padded_size == self._size:
            return
        rope = config.rope_parameters
        if not self._padded_size or self._size % 2 or rope["rope_type"] not in _SCALED_ROPE:
            raise ValueError(
                f"vLLM has no attention for heads of {self._size} with {rope['rope_type']} rotary embeddings"
            )
        theta = rope["rope_theta"] ** (self._padded_size / self._size)
        self.config = copy.deepcopy(config)
        self.config.head_dim = self._padded_size
        self.config.rope_parameters = {**rope, "rope_theta": theta}

    def pad(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Weights of a checkpoint, those of the heads padded."""
        for name, weight in weights:
            match = _ATTENTION.search(name)
            if self._padded_size == self._size or match is None:
                yield name, weight
            elif match["projection"] == "o":
                yield name, weight if name.endswith("bias") else self._pad_rows(weight.t()).t()
            elif match["projection"] == "q":
                yield name, self._pad_rows(weight * (self._padded_size / self._size) ** 0.5)
            else:
                yield name, self._pad_rows(weight)

    def _pad_rows(self, weight: torch.Tensor) -> torch.Tensor:
        """``[heads * size, …]`` to ``[heads * padded size, …]``."""
        half, padded_half = self._size // 2, self._padded_size // 2
        halves = weight.reshape(-1, half, *weight.shape[1:])
        padded = halves.new_zeros(halves.shape[0], padded_half, *weight.shape[1:])
        padded[:, :half] = halves
        return padded.reshape(-1, *weight.shape[1:])
