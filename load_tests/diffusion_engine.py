"""How much of a plain static batch's throughput the diffusion engine keeps, and what it gains where jobs differ.

    python load_tests/diffusion_engine.py [--device cpu] [--rounds 3]

Both draw with the same UNet of random weights, in one process, by turns: the ratios hold where absolute times do not.
Decoding is left out.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.diffusion.engine import DiffusionEngine, Latents
from models.diffusion.job import RenderJob
from models.diffusion.open_jobs import OpenJobs
from models.diffusion.stats import EngineCounters

GUIDANCE_SCALE = 4.0
HIDDEN_SIZE = 256
STATES_SHAPE = (64, HIDDEN_SIZE)
EQUAL_STEPS = [15] * 8
MIXED_STEPS = [5, 30, 10, 5, 20, 15, 5, 25] * 2
MAX_BATCH = 8
SCHEDULER_CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def random_decoder(device: str) -> DiffusionDecoder:
    """A UNet of about four million parameters on 16x16 latents."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
    )
    decoder = DiffusionDecoder(
        ConditionProjector(HIDDEN_SIZE, 128),
        unet,
        AutoencoderKL(block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4),
        SCHEDULER_CONFIG,
        SamplingDefaults(),
    )
    for module in (decoder.projector, decoder.unet, decoder.vae):
        module.to(device).eval().requires_grad_(False)
    return decoder


@torch.inference_mode()
def draw_static(decoder: DiffusionDecoder, states: torch.Tensor, steps: list[int]) -> None:
    """The usual pipeline: batches in order of arrival, each as long as its longest job."""
    for start in range(0, len(steps), MAX_BATCH):
        jobs = len(steps[start : start + MAX_BATCH])
        scheduler = DDIMScheduler(**SCHEDULER_CONFIG)
        scheduler.set_timesteps(max(steps[start : start + MAX_BATCH]))
        condition = decoder.projector(states.to(decoder.device).expand(2 * jobs, -1, -1))
        latents = torch.randn(jobs, 4, 16, 16).to(decoder.device)
        for timestep in scheduler.timesteps:
            output = decoder.unet(torch.cat([latents, latents]), timestep, encoder_hidden_states=condition).sample
            unconditional, conditional = output.chunk(2)
            guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
            latents = scheduler.step(guided, timestep, latents).prev_sample
        latents.cpu()


def draw_continuously(decoder: DiffusionDecoder, states: torch.Tensor, steps: list[int]) -> None:
    """The engine, on this thread."""
    counters = EngineCounters()
    finished: list[Latents] = []
    open_jobs = OpenJobs(lambda _job_id, _update: None, counters)
    engine = DiffusionEngine(decoder, STATES_SHAPE, states, open_jobs, finished.append, counters, MAX_BATCH)
    size = decoder.image_size
    for number, job_steps in enumerate(steps):
        job = RenderJob(str(number), states, None, size, size, job_steps, GUIDANCE_SCALE, "ddim", seed=number)
        open_jobs.open(job)
        engine.add(job)
    while not engine.idle:
        engine.step()
    if len(finished) != len(steps):
        raise RuntimeError(f"{len(steps) - len(finished)} jobs failed")


def medians(cases: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each case, run by turns after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def bar(name: str, value: float, goal: float) -> None:
    """One goal, in the form that all benchmarks here have."""
    print(f"bar {name} {value:.2f} {goal:.2f} {'met' if value >= goal else 'missed'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    decoder = random_decoder(arguments.device)
    parameters = sum(parameter.numel() for parameter in decoder.unet.parameters())
    print(
        f"conditions: {decoder.device}, {decoder.dtype}, torch {torch.__version__}, {torch.get_num_threads()} of "
        f"{os.cpu_count()} cores, UNet of {parameters / 1e6:.1f} M parameters on 16x16 latents, guidance "
        f"{GUIDANCE_SCALE}, DDIM, batches of {MAX_BATCH}, medians of {arguments.rounds} rounds by turns"
    )
    states = torch.randn(STATES_SHAPE)
    seconds = medians(
        {
            "static, equal jobs": lambda: draw_static(decoder, states, EQUAL_STEPS),
            "engine, equal jobs": lambda: draw_continuously(decoder, states, EQUAL_STEPS),
            "static, mixed jobs": lambda: draw_static(decoder, states, MIXED_STEPS),
            "engine, mixed jobs": lambda: draw_continuously(decoder, states, MIXED_STEPS),
        },
        arguments.rounds,
    )
    for name, time_s in seconds.items():
        print(f"{name}: {time_s:.2f} s")
    bar("engine_to_static_equal_jobs", seconds["static, equal jobs"] / seconds["engine, equal jobs"], 0.9)
    bar("engine_to_static_mixed_jobs", seconds["static, mixed jobs"] / seconds["engine, mixed jobs"], 1.3)


if __name__ == "__main__":
    main()
