"""The judge: what it sees in pictures of the model, and how often it is right about true ones."""

import random

import numpy as np

from models.training.judge import judge
from models.training.world import RESOLUTION, Scene, draw, sample_scene
from server.evaluation.pixels import resized
from server.evaluation.scores import Tally

HELD_OUT = 5  # one of so many true drawings has a held-out combination


def seen(picture: np.ndarray | None) -> Scene | None:
    """What the judge sees in a picture; None without one. Larger pictures are reduced to the world's resolution."""
    return None if picture is None else judge(resized(picture, RESOLUTION))


def judge_accuracy(rng: random.Random, count: int) -> Tally:
    """On how many of so many true drawings the judge sees exactly what they show."""
    tally = Tally()
    for number in range(count):
        scene = sample_scene(rng, held_out=number % HELD_OUT == 0)
        judged = judge(draw(scene, rng))
        tally += Tally.one(judged.background == scene.background and set(judged.shapes) == set(scene.shapes))
    return tally
