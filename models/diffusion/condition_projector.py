"""The condition projector: what a diffusion model reads of a language model."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class ConditionProjector(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """One linear layer from the language model's hidden size to the UNet's cross-attention size.

    Args:
        hidden_size: size of a dream state.
        cross_attention_dim: size of what the UNet attends to.
        bias: the published DreamLLM has none here.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, hidden_size: int, cross_attention_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, cross_attention_dim, bias=bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Dream states ``[..., queries, hidden_size]`` to conditioning ``[..., queries, cross_attention_dim]``."""
        condition: torch.Tensor = self.linear(states)
        return condition
