"""Pictures drawn on a GPU: those of a CPU within float16, whatever is drawn beside them."""

import numpy as np
import pytest
import torch

from load_tests.gpu.model import SD21, TINY
from load_tests.gpu.options import OPTIONS, Option
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Completed, RenderJob
from server.pool.local import LocalPool
from tests.tiny_diffusion import make_render_job, random_decoder, random_states

pytestmark = pytest.mark.gpu

SMALL_DIFFERENCE = 4.0
"""In the mean over the 256 values of a channel: what the rounding of float16 may make of a picture."""


def decoder_on(device: torch.device) -> DiffusionDecoder:
    """The decoder of the tests, in the dtype that the server computes in there."""
    decoder = random_decoder()
    for module in decoder.modules.values():
        module.to(device)
        if device.type == "cuda":
            module.half()
    return decoder


async def drawn(device: torch.device, *jobs: RenderJob) -> dict[str, np.ndarray]:
    """Pixels of all jobs, drawn together."""
    pool = LocalPool(decoder_on(device), max_batch=len(jobs))
    pool.start(random_states(999))
    pixels = {}
    try:
        renderings = [pool.render(job) for job in jobs]
        for job, rendering in zip(jobs, renderings, strict=True):
            async for update in rendering:
                if isinstance(update, Completed):
                    pixels[job.id] = update.image.pixels
    finally:
        await pool.close(drain_s=0)
    return pixels


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, of 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "dpmpp_2m"])
async def test_a_gpu_draws_what_a_cpu_draws(gpu: torch.device, scheduler: str) -> None:
    job = make_render_job("picture", scheduler=scheduler, steps=10)
    there = await drawn(gpu, job)
    here = await drawn(torch.device("cpu"), job)

    assert difference(there["picture"], here["picture"]) < SMALL_DIFFERENCE


async def test_a_seed_gives_the_same_picture_whatever_is_drawn_beside_it(gpu: torch.device) -> None:
    job = make_render_job("picture", seed=7)
    others = [make_render_job(f"other-{i}", seed=i, steps=3 + i, guidance_scale=1.0 + i) for i in range(3)]
    alone = await drawn(gpu, job)
    together = await drawn(gpu, job, *others)

    assert difference(alone["picture"], together["picture"]) < SMALL_DIFFERENCE


@torch.inference_mode()
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_predicts_what_eager_mode_predicts(gpu: torch.device, option: Option) -> None:
    side = TINY.unet["sample_size"]
    states = torch.randn(4, *TINY.states_shape, device=gpu, dtype=torch.float16)
    predictions = []
    for make in (OPTIONS[0].make, option.make):
        decoder = make(TINY, gpu)
        torch.manual_seed(1)
        latents = torch.randn(4, 4, side, side, device=gpu)
        for timestep in (10.0, 900.0):  # twice: a graph is captured, then replayed
            prediction = decoder.predict(
                latents, torch.full((4,), timestep), Conditioning(decoder.projector(states), {})
            )
        predictions.append(prediction)

    torch.testing.assert_close(*predictions, rtol=2e-2, atol=2e-2)


@torch.inference_mode()
def test_the_published_size_fits_and_predicts_numbers(gpu: torch.device) -> None:
    decoder = OPTIONS[0].make(SD21, gpu)
    condition = Conditioning(decoder.projector(torch.zeros(2, *SD21.states_shape, device=gpu, dtype=torch.float16)), {})
    prediction = decoder.predict(torch.randn(2, 4, 64, 64, device=gpu), torch.tensor([1.0, 999.0]), condition)
    pixels = decoder.decode(torch.randn(1, 4, 64, 64, device=gpu))

    assert prediction.isfinite().all()
    assert pixels.shape == (1, 512, 512, 3)
