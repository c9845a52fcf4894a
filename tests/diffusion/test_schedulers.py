"""Samplers by name from a checkpoint's scheduler configuration."""

import pytest
import torch

from models.diffusion.job import SchedulerName
from models.diffusion.schedulers import make_scheduler, predict_original
from tests.tiny_diffusion import SCHEDULER_CONFIG

SCHEDULERS: list[SchedulerName] = ["ddpm", "ddim", "dpmpp_2m"]


@pytest.mark.parametrize(("steps", "first", "last", "spacing"), [(5, 801, 1, 200), (20, 951, 1, 50), (150, 895, 1, 6)])
def test_ddpm_visits_the_timesteps_of_the_official_code(steps: int, first: int, last: int, spacing: int) -> None:
    timesteps = make_scheduler("ddpm", SCHEDULER_CONFIG, steps).timesteps.tolist()
    assert timesteps == list(range(first, last - 1, -spacing))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 50, 333, 500, 997, 998])
def test_any_number_of_steps_below_the_trained_ones_can_be_drawn(name: SchedulerName, steps: int) -> None:
    scheduler = make_scheduler(name, SCHEDULER_CONFIG, steps)
    latents = torch.ones(1, 4, 2, 2)
    generator = torch.Generator().manual_seed(0)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(latents * 0.1, timestep, latents, generator=generator, return_dict=False)[0]
    assert latents.isfinite().all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_trailing_timesteps_can_be_any_number_too(name: SchedulerName) -> None:
    config = {**SCHEDULER_CONFIG, "timestep_spacing": "trailing"}
    for steps in range(1, 251):
        assert len(make_scheduler(name, config, steps).timesteps) == steps


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [61, 244])
def test_a_perfect_predictor_reaches_the_clean_latents_where_diffusers_counts_one_step_too_many(
    name: SchedulerName, steps: int
) -> None:
    # DDIM ends at the first noise level unless told otherwise: then it, too, must end clean.
    trailing = {"timestep_spacing": "trailing", "prediction_type": "sample", "set_alpha_to_one": True}
    config = {**SCHEDULER_CONFIG, **trailing}
    scheduler = make_scheduler(name, config, steps)
    generator = torch.Generator().manual_seed(0)
    clean, latents = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for timestep in scheduler.timesteps:
        latents = scheduler.step(clean, timestep, latents, generator=generator, return_dict=False)[0]
    torch.testing.assert_close(latents, clean, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [-1, 0, 1000])
def test_other_numbers_of_steps_are_refused(name: SchedulerName, steps: int) -> None:
    with pytest.raises(ValueError, match="steps must be between 1 and 999"):
        make_scheduler(name, SCHEDULER_CONFIG, steps)


def test_steps_that_would_begin_past_the_noise_schedule_are_refused() -> None:
    with pytest.raises(ValueError, match="dpmpp_2m cannot do 999 steps"):
        make_scheduler("dpmpp_2m", SCHEDULER_CONFIG, 999)


def test_the_solver_is_that_of_the_name_whatever_the_configuration_says() -> None:
    config = {**SCHEDULER_CONFIG, "algorithm_type": "sde-dpmsolver++", "solver_order": 3}
    scheduler = make_scheduler("dpmpp_2m", config, 10)
    assert (scheduler.config.algorithm_type, scheduler.config.solver_order) == ("dpmsolver++", 2)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_gives_the_clean_latents(name: SchedulerName, prediction_type: str) -> None:
    scheduler = make_scheduler(name, {**SCHEDULER_CONFIG, "prediction_type": prediction_type}, 10)
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = scheduler.timesteps[3]
    signal = scheduler.alphas_cumprod[timestep]
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    prediction = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[prediction_type]
    torch.testing.assert_close(predict_original(scheduler, prediction, timestep, noisy), clean, atol=1e-4, rtol=0)
