"""What is asked for: documents whose answers have pictures, of the world that the embedded model was trained on."""

import itertools
import random

SIZES = ("", "small ", "big ")
COLOURS = ("red", "blue", "green", "yellow", "purple")
SHAPES = ("circle", "star", "square", "triangle")


def prompts(count: int, seed: int) -> list[str]:
    """So many prompts, all different; the same ones for the same seed.

    With another seed hardly any is among them: a server that was asked once has much of an answer in its caches.
    """
    things = [f"a {size}{colour} {shape}" for size, colour, shape in itertools.product(SIZES, COLOURS, SHAPES)]
    pairs = random.Random(seed).sample(list(itertools.permutations(things, 2)), count)
    return [f"Draw two pictures: {first}, then {second}." for first, second in pairs]
