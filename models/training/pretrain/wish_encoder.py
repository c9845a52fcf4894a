"""Ideal conditions: wishes as the tokens that the UNet attends to, in place of Stable Diffusion's text encoder.

The denoiser learns to draw on these tokens, and the language model then learns to give them: its projected dream states
are regressed onto the tokens of the same wish, as GILL (Koh et al. 2023) regresses onto CLIP's text encoder. Unlike a
text encoder this code is not learned, so denoiser and language model can be trained without waiting for each other.
"""

from collections.abc import Sequence

import torch
from torch import nn

from models.training.world import BACKGROUNDS, COLORS, COUNTS, KINDS, PLACES, SIZES, Wish, WishedShape

CROSS_ATTENTION_DIM = 128
MOST_SHAPES = max(COUNTS)
TOKENS_PER_SHAPE = 2
NUM_TOKENS = 2 + TOKENS_PER_SHAPE * MOST_SHAPES
"""The background, the number of shapes, and the tokens of each shape: as many as the model has dream queries."""

PROPERTIES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "color": tuple(COLORS),
    "size": tuple(SIZES),
    "place": tuple(PLACES),
}
OPEN = 0  # the value of what a wish leaves open; the values that it can name follow, and then that of absent shapes
LENGTH = 0.5 * CROSS_ATTENTION_DIM**0.5  # of a code: the sum of a token's four has entries of deviation one


class WishEncoder(nn.Module):
    """From wishes to the tokens that the UNet attends to.

    Every value of every property has a code in each of the tokens that tell it, and all codes are orthogonal to each
    other. A token of a shape is the sum of the codes of its kind, color, size and place: what belongs to one shape is
    bound by standing in the same tokens, and the squared distance of two tokens counts the values in which they differ.
    What is open and shapes that are not there have codes of their own.

    It has no weights to train or to save: the codes are always the same.
    """

    def __init__(self) -> None:
        super().__init__()
        free = iter(orthogonal(CROSS_ATTENTION_DIM) * LENGTH)

        def codes(values: int) -> torch.Tensor:
            return torch.stack([next(free) for _ in range(values)])

        self.register_buffer("nothing", codes(1) * 2, persistent=False)
        self.register_buffer("backgrounds", codes(1 + len(BACKGROUNDS)) * 2, persistent=False)
        self.register_buffer("counts", codes(1 + MOST_SHAPES) * 2, persistent=False)
        for name, values in PROPERTIES.items():
            tokens = [codes(len(values) + 2) for _ in range(TOKENS_PER_SHAPE)]
            self.register_buffer(name, torch.stack(tokens, 1), persistent=False)

    def forward(self, wishes: Sequence[Wish]) -> torch.Tensor:
        """Tokens ``[wishes, 8, 128]``; ``wishes`` has at least one.

        Raises:
            ValueError: a wish names something that the world does not have.
        """
        values = torch.tensor([_values(wish) for wish in wishes], device=self.get_buffer("nothing").device)
        shapes = values[:, 2:].reshape(len(wishes), MOST_SHAPES, len(PROPERTIES))
        tokens = torch.stack([self.get_buffer(name)[shapes[..., i]] for i, name in enumerate(PROPERTIES)]).sum(0)
        background = self.get_buffer("backgrounds")[values[:, 0]]
        count = self.get_buffer("counts")[values[:, 1]]
        return torch.cat([background[:, None], count[:, None], tokens.flatten(1, 2)], 1)

    def unconditional(self) -> torch.Tensor:
        """Tokens ``[8, 128]`` of the empty prompt, for classifier-free guidance."""
        return self.get_buffer("nothing").expand(NUM_TOKENS, -1)


def orthogonal(dim: int) -> torch.Tensor:
    """An orthogonal matrix ``[dim, dim]``, always the same."""
    random = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix, triangle = torch.linalg.qr(random)
    signed: torch.Tensor = matrix * triangle.diagonal().sign()  # signs are else up to the linear algebra library
    return signed.float()


def _values(wish: Wish) -> list[int]:
    """A wish as numbers: background, number of shapes, then the properties of each shape."""
    background = OPEN if wish.background is None else 1 + list(BACKGROUNDS).index(wish.background)
    if wish.shapes is None:
        return [background, OPEN, *[OPEN] * len(PROPERTIES) * MOST_SHAPES]
    absent = [1 + len(values) for values in PROPERTIES.values()] * (MOST_SHAPES - len(wish.shapes))
    return [background, len(wish.shapes), *(value for shape in wish.shapes for value in _shape_values(shape)), *absent]


def _shape_values(shape: WishedShape) -> list[int]:
    asked = [(getattr(shape, name), values) for name, values in PROPERTIES.items()]
    return [OPEN if value is None else 1 + values.index(value) for value, values in asked]
