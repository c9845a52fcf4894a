"""What the engine computes: the picture of a job, whatever else is drawn beside it."""

import dataclasses
import weakref
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import RenderJob
from tests.diffusion.stepped_engine import SteppedEngine
from tests.tiny_diffusion import STATES_SHAPE, make_render_job, random_decoder, random_states

SCHEDULERS = ["ddpm", "ddim", "dpmpp_2m"]


@torch.inference_mode()
def drawn_plainly(decoder: DiffusionDecoder, job: RenderJob, negative_states: torch.Tensor) -> torch.Tensor:
    """The loop that a reader of the diffusers manual would write for one picture."""
    config = {"timestep_spacing": "leading", **decoder.scheduler_config}
    match job.scheduler:
        case "ddpm":
            scheduler: Any = DDPMScheduler.from_config(config)
        case "ddim":
            scheduler = DDIMScheduler.from_config(config)
        case "dpmpp_2m":
            scheduler = DPMSolverMultistepScheduler.from_config(config)
    scheduler.set_timesteps(job.steps)
    if job.negative_states is not None:
        negative_states = job.negative_states
    condition = decoder.projector(torch.stack([negative_states, job.states]))
    generator = torch.Generator().manual_seed(job.seed)
    latents = torch.randn((1, 4, job.height // 2, job.width // 2), generator=generator)
    for timestep in scheduler.timesteps:
        output = decoder.unet(latents.repeat(2, 1, 1, 1), timestep, encoder_hidden_states=condition).sample
        unconditional, conditional = output[:1], output[1:]
        guided = unconditional + job.guidance_scale * (conditional - unconditional)
        prediction = guided if job.guidance_scale > 1 else conditional
        latents = scheduler.step(prediction, timestep, latents, generator=generator).prev_sample
    return latents


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_a_picture_equals_that_of_a_plain_diffusers_loop(
    decoder: DiffusionDecoder,
    stepped: SteppedEngine,
    negative_states: torch.Tensor,
    scheduler: str,
    guidance_scale: float,
    steps: int,
) -> None:
    job = make_render_job("a", scheduler=scheduler, guidance_scale=guidance_scale, steps=steps, seed=77)
    drawn = stepped.draw(job)["a"]
    torch.testing.assert_close(drawn, drawn_plainly(decoder, job, negative_states), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("spacing", [{}, {"timestep_spacing": "trailing"}, {"steps_offset": 0}])
def test_the_checkpoints_noise_schedule_is_followed(
    decoder: DiffusionDecoder,
    negative_states: torch.Tensor,
    scheduler: str,
    prediction_type: str,
    beta_schedule: str,
    spacing: dict[str, Any],
) -> None:
    schedule = {"prediction_type": prediction_type, "beta_schedule": beta_schedule, **spacing}
    decoder.description = dataclasses.replace(
        decoder.description, scheduler_config={**decoder.scheduler_config, **schedule}
    )
    job = make_render_job("a", scheduler=scheduler, steps=5)
    drawn = SteppedEngine(decoder, negative_states).draw(job)["a"]
    torch.testing.assert_close(drawn, drawn_plainly(decoder, job, negative_states), atol=1e-4, rtol=1e-4)


job_settings = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from(SCHEDULERS),
        "steps": st.integers(1, 6),
        "guidance_scale": st.sampled_from([0.0, 1.0, 1.5, 7.5]),
        "seed": st.integers(0, 2**63),
        "width": st.sampled_from([32, 64]),
        "height": st.sampled_from([32, 48]),
        "previews": st.integers(0, 3),
        "own_negative": st.booleans(),
        "arrives": st.integers(0, 6),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(job_settings, min_size=2, max_size=7))
def test_a_job_draws_the_same_picture_alone_and_in_any_batch(
    negative_states: torch.Tensor, requests: list[dict[str, Any]]
) -> None:
    decoder = random_decoder()
    together = SteppedEngine(decoder, negative_states, max_batch=4)
    arrivals: dict[int, list[RenderJob]] = {}
    for number, request in enumerate(requests):
        own_negative = torch.full(STATES_SHAPE, 0.1 * number) if request.pop("own_negative") else None
        arrives = request.pop("arrives")
        arrivals.setdefault(arrives, []).append(make_render_job(str(number), negative_states=own_negative, **request))
    jobs = [job for batch in arrivals.values() for job in batch]
    for step in range(max(arrivals) + 1):
        together.add(*arrivals.get(step, []))
        together.step()
    finals = together.draw()

    for job in jobs:
        alone = SteppedEngine(decoder, negative_states).draw(job)[job.id]
        assert (finals[job.id] - alone).abs().max() < 1e-3


def test_a_seed_gives_the_same_picture_again_and_another_seed_another(
    decoder: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    first, again, other = (
        SteppedEngine(decoder, negative_states).draw(make_render_job("a", seed=seed))["a"] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


def test_a_job_without_negative_states_is_guided_by_the_empty_prompt(
    stepped: SteppedEngine, negative_states: torch.Tensor
) -> None:
    implicit = make_render_job("implicit")
    explicit = dataclasses.replace(implicit, id="explicit", negative_states=negative_states)
    other = dataclasses.replace(implicit, id="other", negative_states=negative_states + 1)
    drawn = stepped.draw(implicit, explicit, other)
    torch.testing.assert_close(drawn["implicit"], drawn["explicit"], atol=1e-4, rtol=0)
    assert (drawn["implicit"] - drawn["other"]).abs().max() > 1e-2


@pytest.fixture
def projected(decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the projector was called with, ``[queries, hidden_size]`` each."""
    calls: list[torch.Tensor] = []
    project = decoder.projector.forward

    def recorded(states: torch.Tensor) -> torch.Tensor:
        calls.extend(states)
        projection: torch.Tensor = project(states)
        return projection

    monkeypatch.setattr(decoder.projector, "forward", recorded)
    return calls


def test_the_guidance_branch_of_the_empty_prompt_is_computed_once_for_all_jobs(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, projected: list[torch.Tensor]
) -> None:
    engine = SteppedEngine(decoder, negative_states, max_batch=2)
    engine.draw(*(make_render_job(str(number)) for number in range(5)))
    engine.draw(make_render_job("later", width=64))
    assert sum(torch.equal(states, negative_states) for states in projected) == 1
    assert len(projected) == 6 + 1


def test_the_guidance_branch_of_a_negative_prompt_is_computed_once_for_jobs_that_share_its_tensor(
    stepped: SteppedEngine, projected: list[torch.Tensor]
) -> None:
    shared, equal = random_states(5), random_states(5)
    drawn = stepped.draw(
        make_render_job("a", negative_states=shared, seed=1),
        make_render_job("b", negative_states=shared, seed=2),
        make_render_job("c", negative_states=equal, seed=1, states=random_states(sum(b"a"))),
    )
    assert sum(torch.equal(states, shared) for states in projected) == 2
    torch.testing.assert_close(drawn["a"], drawn["c"], atol=1e-4, rtol=0)


def test_only_the_latest_negative_prompts_are_kept_in_memory(stepped: SteppedEngine) -> None:
    tensors = [random_states(number) for number in range(40)]
    kept = [weakref.ref(tensor) for tensor in tensors]
    for number in range(40):
        stepped.draw(make_render_job(str(number), negative_states=tensors.pop(), steps=1))
        stepped.handed_over.clear()
    assert sum(reference() is not None for reference in kept) < 40


@pytest.mark.parametrize(
    ("steps", "previews", "due"),
    [(20, 3, [5, 10, 15]), (4, 1, [2]), (3, 3, [1, 2]), (2, 3, [1]), (1, 3, []), (50, 0, [])],
)
def test_previews_are_spread_evenly_over_the_steps(
    stepped: SteppedEngine, steps: int, previews: int, due: list[int]
) -> None:
    stepped.add(make_render_job("a", steps=steps, previews=previews))
    seen: list[int] = []
    for step in range(1, steps + 1):
        stepped.step()
        seen += [step] * (len(stepped.previews("a")) - len(seen))
    assert seen == due
    assert [item.preview_index for item in stepped.previews("a")] == list(range(len(due)))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_previews_do_not_change_the_picture(
    decoder: DiffusionDecoder, negative_states: torch.Tensor, scheduler: str
) -> None:
    plain, previewed = (
        SteppedEngine(decoder, negative_states).draw(make_render_job("a", scheduler=scheduler, previews=previews))["a"]
        for previews in (0, 3)
    )
    assert torch.equal(plain, previewed)


def test_half_precision_weights_keep_float32_latents_and_the_same_noise(
    decoder: DiffusionDecoder, stepped: SteppedEngine, negative_states: torch.Tensor
) -> None:
    exact = stepped.draw(make_render_job("a"))["a"]
    for module in (decoder.unet, decoder.projector):
        module.to(torch.bfloat16)
    rough = SteppedEngine(decoder, negative_states).draw(make_render_job("a"))["a"]
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.95
