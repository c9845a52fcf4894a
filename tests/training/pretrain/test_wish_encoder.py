"""Ideal conditions say exactly what a wish says, shape by shape."""

from dataclasses import replace

import pytest
import torch

from models.training.pretrain.wish_encoder import NUM_TOKENS, WishEncoder
from models.training.world import Wish, WishedShape

CIRCLE = WishedShape("circle", "red", "big", "left")
STAR = WishedShape("star", "yellow", "small", "right")
WISH = Wish("white", (CIRCLE, STAR))


@pytest.fixture(scope="module")
def encoder() -> WishEncoder:
    return WishEncoder()


def differing(encoder: WishEncoder, first: Wish, second: Wish) -> set[int]:
    """Positions of the tokens in which two wishes differ."""
    a, b = encoder([first, second])
    return set((a != b).any(-1).nonzero().flatten().tolist())


def test_every_wish_has_eight_tokens(encoder: WishEncoder) -> None:
    assert encoder([WISH, Wish(), Wish(None, (CIRCLE,))]).shape == (3, NUM_TOKENS, 128)
    assert encoder.unconditional().shape == (NUM_TOKENS, 128)


@pytest.mark.parametrize(
    ("other", "tokens"),
    [
        (replace(WISH, background="black"), {0}),
        (replace(WISH, background=None), {0}),
        (Wish("white", (replace(CIRCLE, color="blue"), STAR)), {2, 3}),
        (Wish("white", (CIRCLE, replace(STAR, place=None))), {4, 5}),
        (Wish("white", (CIRCLE, STAR, CIRCLE)), {1, 6, 7}),
        (Wish("white", (STAR, CIRCLE)), {2, 3, 4, 5}),
        (Wish("white", None), {1, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_tokens_differ_where_the_wishes_differ(encoder: WishEncoder, other: Wish, tokens: set[int]) -> None:
    assert differing(encoder, WISH, other) == tokens


def test_a_shape_left_open_is_not_a_shape_that_is_absent(encoder: WishEncoder) -> None:
    assert differing(encoder, Wish(None, (CIRCLE,)), Wish(None, (CIRCLE, WishedShape()))) == {1, 4, 5}


def test_the_distance_of_shapes_counts_what_differs(encoder: WishEncoder) -> None:
    others = [replace(CIRCLE, color="blue"), replace(CIRCLE, color="blue", kind=None), STAR]
    tokens = encoder([Wish(None, (shape,)) for shape in (CIRCLE, *others)])[:, 2:4]
    distances = (tokens[1:] - tokens[0]).square().sum(-1)
    torch.testing.assert_close(distances / distances[0, 0], torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))


def test_the_code_is_always_the_same_and_is_not_saved(encoder: WishEncoder) -> None:
    torch.manual_seed(7)
    assert torch.equal(WishEncoder()([WISH]), encoder([WISH]))
    assert not encoder.state_dict()


def test_a_word_that_the_world_does_not_know_is_refused(encoder: WishEncoder) -> None:
    with pytest.raises(ValueError, match="not in"):
        encoder([Wish(None, (WishedShape("pentagon"),))])
