"""Fidelity: how far the model's pictures are, as a set, from true pictures of the same wishes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.training.world import RESOLUTION, complete, draw
from server.evaluation.answering import Answered
from server.evaluation.creation import SinglePictureTrial
from server.evaluation.frechet import FEW, frechet_distance, image_features
from server.evaluation.pixels import resized


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Fréchet distances of pictures to true ones of the same wishes.

    Attributes:
        pictures: of each set.
        distance: of the model's pictures.
        floor: of other true pictures of the same wishes.
    """

    pictures: int
    distance: float
    floor: float


def fidelity(answered: Sequence[Answered], rng: random.Random) -> Fidelity:
    """Of all pictures that were asked for one by one.

    Raises:
        ValueError: there are too few.
        ModuleNotFoundError: the weights of the feature space are not installed.
    """
    generated, true, others = [], [], []
    for trial, picture in single_pictures(answered):
        (wish,), (scene,) = trial.request.wishes, trial.request.scenes
        generated.append(resized(picture, RESOLUTION))
        true.append(draw(scene, rng))
        others.append(draw(complete(wish, rng), rng))
    if len(generated) < FEW:
        raise ValueError(f"{len(generated)} pictures are too few")
    features = image_features(true)
    return Fidelity(
        pictures=len(generated),
        distance=frechet_distance(image_features(generated), features),
        floor=frechet_distance(image_features(others), features),
    )


def single_pictures(answered: Sequence[Answered]) -> Iterator[tuple[SinglePictureTrial, np.ndarray]]:
    """The pictures of the trials that ask for one, with their trials."""
    for one in answered:
        trial, picture = one.trial, one.answer.first_picture
        if isinstance(trial, SinglePictureTrial) and picture is not None:
            yield trial, picture
