"""Previews take a share of the time that denoising takes, and no more."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from models.diffusion.previews import PreviewBudget, shrunken


def test_the_first_previews_are_decoded_whatever_they_will_cost() -> None:
    assert PreviewBudget(0.1).affordable(3, busy_s=0.01) == 3


def test_a_preview_is_left_out_until_denoising_has_earned_it() -> None:
    budget = PreviewBudget(0.1)
    budget.spend(1, 0.1)
    assert budget.affordable(1, busy_s=1.9) == 0
    assert budget.affordable(1, busy_s=2.1) == 1


def test_of_previews_that_are_due_together_as_many_are_decoded_as_are_affordable() -> None:
    budget = PreviewBudget(0.1)
    budget.spend(2, 0.2)
    assert budget.affordable(4, busy_s=4.1) == 2


def test_a_long_time_without_previews_does_not_pay_for_a_stretch_of_nothing_else() -> None:
    budget = PreviewBudget(0.1)
    budget.spend(1, 0.1)
    assert budget.affordable(1000, busy_s=3600.0) == 10


def test_a_preview_that_costs_more_than_can_be_saved_up_comes_when_it_is_paid_for() -> None:
    budget = PreviewBudget(0.1)
    budget.spend(1, 5.0)
    assert budget.affordable(1, busy_s=99.0) == 0
    assert budget.affordable(1, busy_s=101.0) == 1


def test_one_slow_preview_does_not_make_all_that_follow_look_slow() -> None:
    budget = PreviewBudget(0.1)
    for seconds in (2.0, 0.01, 0.01):
        budget.spend(1, seconds)
    assert budget.affordable(5, busy_s=21.0) == 5


@given(
    turns=st.lists(st.tuples(st.floats(0.001, 1.0), st.integers(1, 8)), min_size=1, max_size=60),
    cost_s=st.floats(0.001, 0.5),
    share=st.sampled_from([0.05, 0.1, 0.5]),
)
def test_previews_of_a_known_cost_never_take_more_than_their_share(
    turns: list[tuple[float, int]], cost_s: float, share: float
) -> None:
    budget = PreviewBudget(share)
    busy_s = spent_s = 0.0
    budget.spend(1, cost_s)
    for denoising_s, due in turns:
        busy_s += denoising_s
        if previews := budget.affordable(due, busy_s):
            budget.spend(previews, previews * cost_s)
            spent_s += previews * cost_s
            assert cost_s + spent_s <= share * busy_s * (1 + 1e-9)


@pytest.mark.parametrize(
    ("shape", "small"),
    [((2, 4, 64, 64), (2, 4, 32, 32)), ((1, 4, 128, 64), (1, 4, 32, 16)), ((1, 4, 16, 24), (1, 4, 16, 24))],
)
def test_latents_are_shrunk_to_the_size_of_a_preview_and_not_blown_up(
    shape: tuple[int, ...], small: tuple[int, ...]
) -> None:
    assert shrunken(torch.zeros(shape)).shape == small


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_a_preview_of_stable_diffusion_costs_less_than_half_a_step_and_its_picture_more_than_one() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        latents, states = torch.empty(1, 4, 64, 64), torch.empty(2, 64, 1024)
    step = flops(lambda: unet(latents.expand(2, -1, -1, -1), 1, encoder_hidden_states=states))
    assert flops(lambda: vae.decode(shrunken(latents))) < 0.5 * step
    assert flops(lambda: vae.decode(latents)) > step
