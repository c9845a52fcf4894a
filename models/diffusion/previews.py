"""Early views: decoded small, and only as many as denoising hardly notices."""

import statistics
from collections import deque

import torch
from torch.nn import functional

PREVIEW_SHARE = 0.1
"""Of the time that denoising takes, what previews may cost beside it."""

_LATENT_SIDE = 32
"""Of a preview. With Stable Diffusion 2.1 at 512 pixels its decoding takes 0.62 TFLOP: a quarter of what the picture's
own takes, and 0.4 of a denoising step with guidance."""

_HORIZON_S = 10.0
_WINDOW = 16


def shrunken(latents: torch.Tensor) -> torch.Tensor:
    """Latents ``[batch, channels, h, w]`` whose longer side is at most that of a preview."""
    factor = _LATENT_SIDE / max(latents.shape[-2:])
    return latents if factor >= 1 else functional.interpolate(latents, scale_factor=factor, mode="area")


class PreviewBudget:
    """Keeps the decoding of previews to a share of the time that denoising takes.

    The two run side by side and compete for the same cores, or on a GPU for the same multiprocessors. So a second of
    decoding delays the batch by a second at most, and counting it as one never lets previews take more than they may.
    Denoising earns credit and decoding spends it. Credit runs up to what ten seconds of denoising earn: an hour without
    previews does not pay for a minute in which they take everything. The first previews cost what nobody knows yet;
    they are decoded, and those that follow wait until that is paid for.

    It belongs to the thread that decodes.

    Args:
        share: seconds of decoding for each second of denoising.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit_s = 0.0
        self._busy_s = 0.0
        self._costs: deque[float] = deque(maxlen=_WINDOW)

    def affordable(self, previews: int, busy_s: float) -> int:
        """How many of so many previews may be decoded now.

        Args:
            previews: that are due.
            busy_s: seconds of denoising since the start.
        """
        cost_s = statistics.median(self._costs) if self._costs else 0.0
        earned_s = self._share * (busy_s - self._busy_s)
        self._busy_s = busy_s
        self._credit_s = min(self._credit_s + earned_s, max(cost_s, self._share * _HORIZON_S))
        return previews if not cost_s else min(previews, max(0, int(self._credit_s / cost_s)))

    def spend(self, previews: int, seconds: float) -> None:
        """So many previews, at least one, were decoded in so many seconds."""
        self._credit_s -= seconds
        self._costs.append(seconds / previews)
