"""Jobs that differ, in random order, and the plain loop over full batches of the same mix."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import torch
from diffusers import DDIMScheduler

from load_tests.pool.model import SCHEDULER_CONFIG, ModelSpec
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import RenderJob
from server.pool.base import DiffusionPool

MAX_BATCH = 8
STEPS = (5, 10, 20, 30, 50)
"""From a draft to the most that people ask for."""

GUIDANCE_SCALES = (1.0, 3.5, 7.5)
"""The first is none: such a job takes one row of the UNet's batch, the others two."""

JOB_STEPS = sum(STEPS) / len(STEPS)
JOB_ROWS = JOB_STEPS * sum(1 if scale <= 1 else 2 for scale in GUIDANCE_SCALES) / len(GUIDANCE_SCALES)
"""Steps of a job, and rows of UNet calls that it takes in all, in the mean."""


def mixed_jobs(spec: ModelSpec, side: int, seed: int) -> Iterator[RenderJob]:
    """Jobs without end, of all kinds in random order.

    They are dealt like cards, each kind once before any comes again: a short run has the mix of a long one.
    """
    dealer = random.Random(seed)
    kinds = list(itertools.product(STEPS, GUIDANCE_SCALES))
    numbers = itertools.count()
    while True:
        dealer.shuffle(kinds)
        for steps, guidance_scale in kinds:
            number = next(numbers)
            yield make_job(spec, side, f"{seed}-{number}", steps=steps, guidance_scale=guidance_scale, seed=number)


def make_job(
    spec: ModelSpec, side: int, id: str, *, steps: int, guidance_scale: float, seed: int = 0, previews: int = 0
) -> RenderJob:
    """One job, for a square picture; guided by the empty prompt, if at all."""
    return RenderJob(
        id=id,
        states=spec.states(),
        negative_states=None,
        width=side,
        height=side,
        steps=steps,
        guidance_scale=guidance_scale,
        scheduler="ddim",
        seed=seed,
        previews=previews,
    )


async def draw(pool: DiffusionPool, job: RenderJob) -> None:
    """Have a picture drawn, and forget it."""
    async with aclosing(pool.render(job)) as updates:
        async for _ in updates:
            pass


async def arrivals(jobs: Iterator[RenderJob], jobs_per_s: float, seed: int) -> AsyncIterator[RenderJob]:
    """A Poisson process. A late one is made up for: the mean rate holds."""
    clock = random.Random(seed)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for job in jobs:
        due += clock.expovariate(jobs_per_s)
        await asyncio.sleep(due - loop.time())
        yield job


def static_batches(decoder: DiffusionDecoder, spec: ModelSpec) -> Iterator[int]:
    """The plain loop: full batches of ``MAX_BATCH`` equal jobs.

    There is one loop for each guidance scale, and they take turns, call by call, so that any few calls in a row have
    the rows of the mix.

    Yields:
        The rows of each UNet call, after its scheduler step.
    """
    loops = [_static_batches_of_one_scale(decoder, spec, scale) for scale in GUIDANCE_SCALES]
    while True:
        for loop in loops:
            yield next(loop)


@torch.inference_mode()
def _static_batches_of_one_scale(decoder: DiffusionDecoder, spec: ModelSpec, guidance_scale: float) -> Iterator[int]:
    states = spec.states().to(decoder.device, decoder.dtype)
    rows = MAX_BATCH * (2 if guidance_scale > 1 else 1)
    for steps in itertools.cycle(STEPS):
        scheduler = DDIMScheduler(**SCHEDULER_CONFIG)
        scheduler.set_timesteps(steps)
        condition = decoder.projector(states.expand(rows, -1, -1))
        latents = torch.randn(MAX_BATCH, 4, spec.latent_side, spec.latent_side).to(decoder.device)
        for timestep in scheduler.timesteps:
            inputs = latents.to(decoder.dtype).repeat(rows // MAX_BATCH, 1, 1, 1)
            prediction = decoder.unet(inputs, timestep, encoder_hidden_states=condition).sample.float()
            if guidance_scale > 1:
                unconditional, conditional = prediction.chunk(2)
                prediction = unconditional + guidance_scale * (conditional - unconditional)
            latents = scheduler.step(prediction, timestep, latents).prev_sample
            decoder.synchronize()
            yield rows
