"""What is asked for: documents whose answers have pictures, of the world that the embedded model was trained on."""

import itertools

COLOURS = ("red", "blue", "green", "yellow", "purple")
SHAPES = ("circle", "star", "square", "triangle")


def prompts(count: int) -> list[str]:
    """So many prompts; the same ones every time."""
    pairs = itertools.cycle(itertools.product(COLOURS, SHAPES))
    made = []
    for number, (colour, shape) in zip(range(count), pairs, strict=False):
        other = f"{COLOURS[(number + 2) % len(COLOURS)]} {SHAPES[(number + 1) % len(SHAPES)]}"
        made.append(f"Draw a {colour} {shape} and then a {other}.")
    return made
