"""The pixel classifier by which drawings are judged."""

import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.training.judge import judge
from models.training.world import BACKGROUNDS, COLORS, KINDS, PLACES, SIZES, Scene, Shape, draw, sample_scene

DRAWINGS = 1000
RIGHT = 0.99


def drawings() -> list[tuple[Scene, np.ndarray]]:
    """Pictures of one to three shapes with their truth; a quarter are of the scenes that training doesn't see."""
    rng = random.Random(7)
    scenes = [sample_scene(rng, held_out=i % 4 == 0) for i in range(DRAWINGS)]
    return [(scene, draw(scene, rng)) for scene in scenes]


def blurred(picture: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """As an autoencoder might leave it."""
    soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32)
    worn: np.ndarray = (soft + noise.normal(0, 5, soft.shape)).round().clip(0, 255).astype(np.uint8)
    return worn


def same(one: Scene, other: Scene) -> bool:
    """Whether two scenes are equal, but for the order of their shapes."""
    return one.background == other.background and set(one.shapes) == set(other.shapes)


def test_it_is_exactly_right_on_more_than_99_percent_of_true_drawings() -> None:
    assert np.mean([same(judge(picture), scene) for scene, picture in drawings()]) > RIGHT


def test_it_is_as_right_on_blurred_and_noisy_drawings() -> None:
    noise = np.random.default_rng(0)
    assert np.mean([same(judge(blurred(picture, noise)), scene) for scene, picture in drawings()]) > RIGHT


def test_it_knows_every_single_shape() -> None:
    for kind in KINDS:
        for color in COLORS:
            for size in SIZES:
                for place in PLACES:
                    scene = Scene("gray", (Shape(kind, color, size, place),))
                    assert judge(draw(scene)) == scene


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_it_sees_an_empty_background(background: str) -> None:
    assert judge(draw(Scene(background, ()))) == Scene(background, ())


def test_it_sees_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert judge(noise).shapes == ()


def test_it_leaves_out_what_is_no_shape_of_the_world() -> None:
    picture = draw(Scene("white", (Shape("star", "blue", "big", "top"),)))
    picture[45:50, 5:60] = COLORS["red"]
    assert judge(picture).shapes == (Shape("star", "blue", "big", "top"),)
