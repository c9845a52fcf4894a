"""Which processors compute in bfloat16, and what is computed in float32 where they don't.

A CPU without AVX-512 has no such instructions. oneDNN then emulates them: on an AMD EPYC with AVX2 a step of the tiny
model's instructions took 68 s, and 1.5 s in float32.
"""

import torch


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 itself."""
    # What torch.compile asks before it makes kernels of bfloat16 for a CPU.
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision with bfloat16 on devices that compute in it, and float32 on others."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16(device))
