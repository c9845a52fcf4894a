"""Muon, whose arithmetic is that of the device."""

from collections.abc import Callable, Iterable
from math import sqrt

import torch
from torch import nn

from models.training.precision import computes_in_bfloat16


class Muon(torch.optim.Muon):
    """torch's Muon, that makes updates orthogonal in float32 on devices that don't compute in bfloat16.

    Those of the tiny language model take 0.2 s in float32 on an AVX2 core, and 11 s in the emulated bfloat16 that torch
    has for all devices. The learning rate is scaled as "match_rms_adamw" says, so that it is one for AdamW.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters that have a gradient.

        Args:
            closure: computes the loss anew, if given.

        Returns:
            That loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                average = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"]) if group["nesterov"] else average
                update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                # AdamW's updates have a root mean square of about 0.2 (Liu et al. 2025, "Muon is Scalable").
                parameter.add_(update, alpha=-group["lr"] * 0.2 * sqrt(max(parameter.shape)))
        return loss


def orthogonalized(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """The matrix with singular values of about 1, by Newton and Schulz's iteration (Jordan et al. 2024).

    Args:
        matrix: (rows, columns).
        coefficients: of the iteration's polynomial of degree five, the lowest first.
        steps: how many iterations.
        eps: the least norm to divide by.

    Returns:
        (rows, columns), bfloat16 where the device computes in it, else float32.
    """
    dtype = torch.bfloat16 if computes_in_bfloat16(matrix.device) else torch.float32
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide.to(dtype)
    x = x / x.norm().clamp(min=eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if wide is not matrix else x
