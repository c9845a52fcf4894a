"""What one UNet call asks of a chip: operations, bytes, and so which of the two bounds it.

Counted on the meta device, without computing anything. Bytes are those that must move at the least: the weights once,
whatever the batch, and each row's latents and states. Activations that do not stay in caches come on top. A call whose
operations for each byte are above a chip's own ratio is bound by arithmetic, below it by memory (Williams et al.,
"Roofline", CACM 2009).
"""

from dataclasses import dataclass

import torch

from load_tests.gpu.measure import unet_flops
from load_tests.gpu.model import SD21, Spec, random_decoder
from load_tests.results import Results

ROWS = (1, 2, 4, 8, 16, 64)
H100_FLOPS_PER_S = 989.4e12
H100_BYTES_PER_S = 3.35e12
"""NVIDIA's data sheet of the H100 SXM: float16 on tensor cores, dense; HBM3."""


@dataclass(frozen=True, slots=True)
class UNetCall:
    """What a call asks for.

    Attributes:
        flops: of each row.
        weight_bytes: of all, in float16.
        row_bytes: of a row's latents, states and prediction, in float16.
    """

    flops: float
    weight_bytes: int
    row_bytes: int

    def intensity(self, rows: int) -> float:
        """Operations for each byte."""
        return rows * self.flops / (self.weight_bytes + rows * self.row_bytes)

    def least_s(self, rows: int) -> float:
        """Seconds on an H100 that reached both of its peaks."""
        moved = self.weight_bytes + rows * self.row_bytes
        return max(rows * self.flops / H100_FLOPS_PER_S, moved / H100_BYTES_PER_S)


@torch.inference_mode()
def unet_call(spec: Spec) -> UNetCall:
    """Of a model of this size."""
    decoder = random_decoder(spec, torch.device("meta"))
    parameters = sum(parameter.numel() for parameter in decoder.unet.parameters())
    latents = 4 * spec.unet["sample_size"] ** 2
    row = 2 * (2 * latents + spec.states_shape[0] * spec.unet["cross_attention_dim"])
    return UNetCall(unet_flops(decoder, spec), 2 * parameters, row)


def report(results: Results) -> None:
    """Print what Stable Diffusion 2.1 asks of an H100."""
    call = unet_call(SD21)
    ridge = H100_FLOPS_PER_S / H100_BYTES_PER_S
    results.table(
        f"A UNet call of Stable Diffusion 2.1: {call.flops / 1e12:.2f} TFLOP a row, "
        f"{call.weight_bytes / 1e9:.2f} GB of weights; an H100 does {ridge:.0f} FLOP in the time of a byte",
        ("rows", "FLOP a byte", "bound by", "least ms on an H100", "least seconds for 50 steps"),
        [
            (
                rows,
                call.intensity(rows),
                "arithmetic" if call.intensity(rows) > ridge else "memory",
                1000 * call.least_s(rows),
                50 * call.least_s(rows),
            )
            for rows in ROWS
        ],
    )
