"""The probes of the vision tower ask each patch for what is centered at its corners."""

import random
from pathlib import Path

import numpy as np
import torch

from models.training.pictures import image_processor
from models.training.pretrain.autoencoder import to_tensor
from models.training.pretrain.vision import NOWHERE, patch_accuracy, pixel_values, pretrained_vision, targets
from models.training.world import COLORS, RESOLUTION, Scene, Shape, draw, sample_scene

INNER = Shape("star", "yellow", "small", "top left")
OUTER = Shape("circle", "blue", "huge", "top left")


def test_a_shape_is_asked_of_the_four_patches_around_it() -> None:
    kinds = targets(Scene("white", (INNER,)))[0].reshape(4, 4, 4, 2)
    assert np.argwhere(kinds > 0).tolist() == [[0, 0, 3, 0], [0, 1, 2, 0], [1, 0, 1, 0], [1, 1, 0, 0]]


def test_the_outer_of_two_shapes_comes_first() -> None:
    colors = targets(Scene("white", (INNER, OUTER)))[1]
    assert [list(COLORS)[value - 1] for value in colors[0, -2:]] == ["blue", "yellow"]


def test_nothing_is_asked_where_no_shape_can_be() -> None:
    kinds = targets(Scene("white", (INNER,)))[0].reshape(4, 4, 4, 2)
    assert (kinds[0, :, :2] == NOWHERE).all()
    assert (kinds == NOWHERE).sum() == (64 - 36) * 2


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
