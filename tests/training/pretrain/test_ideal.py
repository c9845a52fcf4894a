"""Pictures of ideal conditions are drawn as the service draws, and judged by what was asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.training.pretrain.ideal import SAMPLING, Agreement, IdealArtist, agreement, compare
from models.training.world import Scene, Shape, Wish

STAR = Shape("star", "blue", "small", "left")
SCENE = Scene("white", (STAR,))


@pytest.fixture(scope="module")
def artist(folder: Path) -> IdealArtist:
    return IdealArtist(folder, replace(SAMPLING, steps=2))


def test_pictures_follow_their_seed_and_their_wish(artist: IdealArtist) -> None:
    blue, red = Wish.of(SCENE), Wish.of(Scene("white", (replace(STAR, color="red"),)))
    pictures = artist.draw([blue, red], seed=3)
    assert pictures.shape == (2, 64, 64, 3)
    assert np.abs(artist.draw([blue], seed=3)[0].astype(int) - pictures[0]).max() <= 1
    assert not np.array_equal(artist.draw([red], seed=3)[0], pictures[0])


def test_an_untrained_denoiser_draws_nothing_that_was_asked_for(artist: IdealArtist) -> None:
    assert agreement(artist, [SCENE, SCENE]) == Agreement(shapes=0.0, places=0.0, all=0.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (True, True, True)),
        ({"size": "big"}, (True, True, False)),
        ({"place": "top"}, (True, False, False)),
        ({"color": "red"}, (False, False, False)),
    ],
)
def test_a_picture_agrees_in_degrees(change: dict[str, str], expected: tuple[bool, bool, bool]) -> None:
    assert compare(SCENE, Scene("white", (replace(STAR, **change),))) == expected


def test_a_shape_too_many_is_no_agreement() -> None:
    assert compare(SCENE, Scene("white", (STAR, replace(STAR, color="red", place="right")))) == (False, False, False)
