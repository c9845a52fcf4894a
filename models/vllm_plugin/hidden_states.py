"""The last hidden states of the newest forward pass, kept where a KV connector can find them."""

from typing import cast

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context

_NO_SLOT = -1
_CONTEXT_KEY = "dreamllm.last_hidden_states"


class LastHiddenStates(nn.Module):
    """One forward pass's states after the final norm, and the KV slot that each row was computed for.

    The buffers are static and filled by copies, so a CUDA graph that holds the forward pass refills them on every
    replay, without any Python. Rows are found by KV slot: in a step a slot belongs to one position of one request,
    however the model runner orders or pads its batch.

    Args:
        max_tokens: tokens of one forward pass at most.
        hidden_size: width of a state.
        dtype: of the states.
    """

    states: torch.Tensor
    slots: torch.Tensor

    def __init__(self, max_tokens: int, hidden_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("states", torch.zeros(max_tokens, hidden_size, dtype=dtype), persistent=False)
        self.register_buffer("slots", torch.full((max_tokens,), _NO_SLOT, dtype=torch.int64), persistent=False)

    def publish(self, vllm_config: VllmConfig) -> None:
        """Make this module known to :func:`last_hidden_states`, in the way of vLLM's attention layers."""
        vllm_config.compilation_config.static_forward_context[_CONTEXT_KEY] = self

    def keep(self, hidden_states: torch.Tensor) -> None:
        """Keep the states ``[tokens, hidden]`` of the forward pass that is running, unless it only measures memory."""
        slot_mapping = get_forward_context().slot_mapping
        if not slot_mapping:
            return
        if isinstance(slot_mapping, list):
            raise NotImplementedError("dream states cannot be captured from a step split into microbatches (DBO)")
        # Every layer of a Llama has the same slots.
        slots = next(iter(slot_mapping.values()))
        tokens = min(len(hidden_states), len(slots), len(self.slots))
        self.states[:tokens].copy_(hidden_states[:tokens])
        self.slots.fill_(_NO_SLOT)
        self.slots[:tokens].copy_(slots[:tokens])

    def rows(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The states computed for some KV slots, without waiting for the device.

        Args:
            slots: ``[n]``, on the model's device.

        Returns:
            States ``[n, hidden]``, and whether each was found, bool ``[n]``.
        """
        matches = self.slots == slots.unsqueeze(1)
        return self.states[matches.to(torch.uint8).argmax(dim=1)], matches.any(dim=1)


def last_hidden_states(vllm_config: VllmConfig) -> LastHiddenStates:
    """The module that the model of this process published."""
    return cast(LastHiddenStates, vllm_config.compilation_config.static_forward_context[_CONTEXT_KEY])
