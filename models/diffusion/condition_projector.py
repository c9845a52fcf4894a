"""The condition projector: what a diffusion model reads of a language model."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class ConditionProjector(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """From the language model's hidden size to what the UNet reads.

    Args:
        hidden_size: size of a dream state.
        cross_attention_dim: size of what the UNet attends to; of its pooled vector in a pooled projector.
        bias: the published DreamLLM has none here.
        depth: linear layers, with exact GELUs between them. The published DreamLLM has one.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, hidden_size: int, cross_attention_dim: int, bias: bool = False, depth: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(hidden_size, cross_attention_dim, bias=bias)]
        for _ in range(1, depth):
            layers += [nn.GELU(), nn.Linear(cross_attention_dim, cross_attention_dim, bias=bias)]
        self.linear = layers[0] if depth == 1 else nn.Sequential(*layers)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Dream states ``[..., hidden_size]`` to conditioning ``[..., cross_attention_dim]``."""
        condition: torch.Tensor = self.linear(states)
        return condition
