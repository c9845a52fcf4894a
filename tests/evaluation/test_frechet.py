"""The Fréchet distance against its closed form, and the features against those of the published network."""

import random

import numpy as np
import pytest

from models.training.world import Scene, Shape, draw, sample_scene
from server.evaluation.frechet import frechet_distance, image_features


def gaussian(seed: int, count: int, mean: float, deviation: float, features: int = 3) -> np.ndarray:
    """Samples of independent normal features."""
    return np.random.default_rng(seed).normal(mean, deviation, (count, features))


def test_of_two_gaussians_it_is_their_closed_form() -> None:
    # Independent features: for each, the square of the difference of means plus that of deviations.
    distance = frechet_distance(gaussian(0, 50_000, 0.0, 1.0), gaussian(1, 50_000, 2.0, 3.0))
    assert distance == pytest.approx(3 * (2.0**2 + (3.0 - 1.0) ** 2), rel=0.01)


def test_it_is_the_matrix_root_of_the_paper() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)) + 1
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues = np.linalg.eigvals(first @ second).real
    means = a.mean(axis=0) - b.mean(axis=0)
    expected = means @ means + np.trace(first) + np.trace(second) - 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_with_fewer_pictures_than_features_it_is_still_right() -> None:
    a, b = gaussian(3, 6, 0.0, 1.0, features=40), gaussian(4, 7, 0.5, 1.0, features=40)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a[::-1] + 2.0) == pytest.approx(40 * 2.0**2)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_features_far_from_zero_lose_no_digits() -> None:
    a, b = gaussian(5, 20, 0.0, 1.0), gaussian(6, 20, 1.0, 1.0)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_one_picture_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="needs 2 pictures, not 1"):
        frechet_distance(gaussian(0, 1, 0.0, 1.0), gaussian(1, 9, 0.0, 1.0))


def test_the_features_are_those_of_the_published_network() -> None:
    (features,) = image_features([draw(Scene("mint", (Shape("star", "red", "huge", "center"),)))])
    assert features.shape == (1280,)
    # Recorded from efficientnet-lite-pytorch 0.1.0 with the same weights and pixels.
    assert features[:8] == pytest.approx([0.0, 0.0, 0.32713, 0.09473, 0.0, 0.0, 0.0, 0.22523], abs=1e-4)
    assert features.sum() == pytest.approx(152.99385, rel=1e-4)


def test_true_pictures_are_nearer_to_true_pictures_than_noisy_ones_are() -> None:
    rng, noise = random.Random(0), np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(4)]
    true, other = ([draw(scene, rng) for scene in scenes] for _ in range(2))
    noisy = [(picture + noise.integers(-30, 30, picture.shape)).clip(0, 255).astype(np.uint8) for picture in other]
    features = image_features(true)
    assert frechet_distance(image_features(other), features) < 0.3 * frechet_distance(image_features(noisy), features)
