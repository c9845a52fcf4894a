"""The probes of the vision tower ask one patch for each shape, and every patch for what holds of the whole picture."""

import random
from pathlib import Path

import numpy as np
import torch

from models.training.pictures import image_processor
from models.training.pretrain.autoencoder import to_tensor
from models.training.pretrain.vision import (
    PROPERTIES,
    patch_accuracy,
    patch_of,
    pixel_values,
    pretrained_vision,
    targets,
)
from models.training.world import BACKGROUNDS, RESOLUTION, Scene, Shape, draw, sample_scene

INNER = Shape("star", "yellow", "small", "top left")
OUTER = Shape("circle", "blue", "huge", "top left")


def told_by(patch: int, scene: Scene) -> list[str]:
    """What a patch says of its shape."""
    values = targets(scene)[: len(PROPERTIES), patch]
    return [known[value - 1] for known, value in zip(PROPERTIES.values(), values, strict=True)]


def test_one_patch_tells_all_of_a_shape_and_the_others_nothing() -> None:
    scene = Scene("white", (INNER, Shape("square", "red", "big", "bottom right")))
    kinds = targets(scene)[0]
    assert np.flatnonzero(kinds).tolist() == [0, 10]
    assert told_by(0, scene) == ["star", "yellow", "small", "top left"]
    assert told_by(10, scene) == ["square", "red", "big", "bottom right"]


def test_the_inner_of_two_shapes_has_a_patch_of_its_own() -> None:
    scene = Scene("white", (INNER, OUTER))
    assert told_by(0, scene) == ["circle", "blue", "huge", "top left"]
    assert told_by(5, scene) == ["star", "yellow", "small", "top left"]


def test_no_two_shapes_share_a_patch() -> None:
    rng = random.Random(0)
    for scene in (sample_scene(rng) for _ in range(3000)):
        assert len({patch_of(shape, scene) for shape in scene.shapes}) == len(scene.shapes)


def test_every_patch_tells_the_background_and_how_many_shapes_there_are() -> None:
    background, count = targets(Scene("black", (INNER, OUTER)))[-2:]
    assert {list(BACKGROUNDS)[value] for value in background} == {"black"}
    assert set(count) == {1}


def test_accuracies_are_shares(folder: Path) -> None:
    rng = random.Random(0)
    accuracy = patch_accuracy(folder, [sample_scene(rng) for _ in range(4)], rng, reconstructed=True)
    assert 0 <= accuracy.color < 0.9
    assert 0 <= accuracy.none <= 1


def test_the_tower_is_trained_on_what_the_image_processor_gives(folder: Path) -> None:
    picture = draw(Scene("mint", (INNER, OUTER)))
    given = image_processor(RESOLUTION)([picture], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixel_values(to_tensor([picture])), given, atol=1e-4, rtol=0)
    assert pretrained_vision(folder)(given).last_hidden_state.shape == (1, 17, 128)
