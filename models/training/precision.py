"""Which processors compute in bfloat16, and what is computed in float32 where they don't.

oneDNN has kernels of bfloat16 for x86 CPUs with AVX-512, and for few others. Where it has none, torch goes through each
matrix element by element: on an AMD EPYC with AVX2 a step of the tiny model's instructions took 68 s, and 1.5 s in
float32.
"""

import torch


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has fast matrix products in bfloat16: taken for granted unless it is a CPU."""
    # What torch.compile asks before it makes kernels of bfloat16 for a CPU.
    return device.type != "cpu" or (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision with bfloat16 on devices that compute in it, and float32 on others."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16(device))
