"""The synthetic world and the classifier that judges pictures of it."""

import random

import numpy as np
import pytest

from models.training.judge import judge
from models.training.world import (
    BACKGROUNDS,
    COLORS,
    KINDS,
    PLACES,
    SIZES,
    Scene,
    Shape,
    draw,
    fits,
    outline,
    sample_scene,
)


def test_the_classifier_is_right_on_more_than_99_percent_of_true_drawings() -> None:
    rng = random.Random(7)
    scenes = [sample_scene(rng) for _ in range(400)]
    judged = [judge(draw(scene, rng)) for scene in scenes]
    right = [
        set(seen.shapes) == set(scene.shapes) and seen.background == scene.background
        for scene, seen in zip(scenes, judged, strict=True)
    ]
    assert np.mean(right) > 0.99


def test_the_classifier_sees_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert judge(noise).shapes == ()


def test_a_picture_can_be_drawn_of_everything_that_the_world_names() -> None:
    seen = set()
    for kind in KINDS:
        for color in COLORS:
            for size in SIZES:
                for place in PLACES:
                    shape = Shape(kind, color, size, place)
                    assert judge(draw(Scene("gray", (shape,)))).shapes == (shape,)
                    seen.add(shape)
    assert len(seen) == 4 * 8 * 2 * 5
    assert len(BACKGROUNDS) == 4


def test_shapes_of_a_scene_never_share_a_color_or_a_place() -> None:
    rng = random.Random(3)
    for scene in (sample_scene(rng, shapes=2) for _ in range(200)):
        first, second = scene.shapes
        assert first.color != second.color
        assert first.place != second.place
    assert not fits((Shape("star", "red", "big", "center"), Shape("star", "red", "big", "top left")))


def test_an_unknown_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="pentagon"):
        outline("pentagon", (32, 32), 8)


def test_the_same_generator_draws_the_same_picture() -> None:
    scene = sample_scene(random.Random(1))
    assert np.array_equal(draw(scene, random.Random(2)), draw(scene, random.Random(2)))
    assert not np.array_equal(draw(scene, random.Random(2)), draw(scene, random.Random(3)))
