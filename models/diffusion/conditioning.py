"""What the UNet is told about the pictures that it denoises, beside their latents and timesteps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Conditions of some rows of a UNet's batch. All of one decoder hold the same kinds, so any of them can be joined.

    Attributes:
        states: what cross-attention reads, ``[rows, queries, cross_attention_dim]``.
        added: what is added to the timestep embedding, each ``[rows, …]``, by the names that diffusers gives them.
            Stable Diffusion has none; for Stable Diffusion XL see :mod:`models.diffusion.sdxl`.
    """

    states: torch.Tensor = field(repr=False)
    added: Mapping[str, torch.Tensor] = field(repr=False)

    @property
    def rows(self) -> int:
        """Rows of the UNet's batch that this covers."""
        return self.states.shape[0]

    @classmethod
    def cat(cls, parts: "Sequence[Conditioning]") -> "Conditioning":
        """One after another, as one batch; at least one part."""
        return cls(
            torch.cat([part.states for part in parts]),
            {name: torch.cat([part.added[name] for part in parts]) for name in parts[0].added},
        )
