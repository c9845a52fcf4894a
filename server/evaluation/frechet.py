"""The Fréchet distance between two sets of pictures (Heusel et al. 2017), on features of EfficientNet-Lite0.

The paper's features are Inception-v3's, so its numbers and these do not compare. What does is the distance between two
sets of true pictures of the same size, the floor that no model gets under.
"""

from collections.abc import Sequence

import numpy as np

Features = np.ndarray
"""float64 ``[pictures, features]``."""

FEATURE_SPACE = "EfficientNet-Lite0 (ImageNet weights; 1280 after global pooling; pictures enlarged to 224 pixels)"
FEW = 2  # a covariance needs two


def frechet_distance(first: Features, second: Features) -> float:
    """``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two sets of features, each of at least two pictures.

    With centred features ``A`` and ``B`` such that ``C1 = AᵀA`` and ``C2 = BᵀB``, the eigenvalues of ``C1 C2`` other
    than zero are the squares of the singular values of ``A Bᵀ``. So the root's trace is their sum, without the root of
    a matrix that is singular whenever there are fewer pictures than features. The triangular factors of ``A`` and ``B``
    have the same singular values, and no more rows than there are features.

    Raises:
        ValueError: a set has fewer than two pictures.
    """
    if min(len(first), len(second)) < FEW:
        raise ValueError(f"a covariance needs {FEW} pictures, not {min(len(first), len(second))}")
    a, b = scaled_deviations(first), scaled_deviations(second)
    means = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    root_trace = np.linalg.svdvals(np.linalg.qr(a).R @ np.linalg.qr(b).R.T).sum()
    distance = means @ means + (a * a).sum() + (b * b).sum() - 2 * root_trace
    return max(0.0, float(distance))  # rounding takes equal sets below zero


def scaled_deviations(features: Features) -> Features:
    """The deviations from the mean, scaled so that their product with themselves is the unbiased covariance."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    scaled: Features = centred / np.sqrt(len(features) - 1)
    return scaled


def image_features(pictures: Sequence[np.ndarray]) -> Features:
    """EfficientNet-Lite0's features of pictures, uint8 ``[height, width, 3]``: ``[pictures, 1280]``.

    Raises:
        ModuleNotFoundError: its weights are not installed.
    """
    # Imports torch and reads the weights, for which nobody waits who measures something else.
    from server.evaluation.efficientnet import EfficientNetLite0

    return EfficientNetLite0.pretrained().features(pictures)
