"""Seconds for one picture, pictures a second, and how much of the chip that is."""

import asyncio
import re
import statistics
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from load_tests.gpu.model import Spec, random_decoder
from load_tests.gpu.options import OPTIONS, Option
from load_tests.results import Cell, Results, Series
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Progress, RenderJob
from server.pool.local import LocalPool

GUIDANCE_SCALE = 7.5
ROWS = 2  # of UNet calls for each guided picture
MAX_DECODE_BATCH = 4
GOAL_S = 0.57
"""Of Stable Diffusion 2.1 with 50 steps on an H100."""

PEAKS = {
    r"H100 \d+GB HBM3": 989.4e12,  # SXM
    r"H100 NVL": 835e12,
    r"H100 PCIe": 756e12,
    r"H200": 989.4e12,
    r"H200 NVL": 836e12,
    r"A100(-SXM4|-PCIE)?[- ]\d+GB( PCIe)?": 312e12,
    r"L40": 181e12,
    r"L40S": 362e12,
    r"L4": 121e12,
}
"""FLOP/s in float16 on tensor cores, dense, by NVIDIA's data sheets, for devices whose whole name matches.

That of a part of a device, to which MIG adds what part it is, matches none.
"""
CELL_CHARACTERS = 120
"""Of an error in a table."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What one picture took, alone, in seconds.

    Attributes:
        denoising: until its last step.
        whole: until it was encoded.
    """

    denoising: float
    whole: float


@dataclass(frozen=True, slots=True)
class Seconds:
    """For one picture, encoded.

    Attributes:
        served: in eager mode, as the server draws.
        best: with the option that made it the fastest.
    """

    served: float
    best: float


async def measure(results: Results, spec: Spec, device: torch.device, pictures: int, batches_each: int) -> Seconds:
    """Measure every option, then every batch size with the best one. Returns seconds for a picture.

    An option that fails is told as that, and the others are measured; but for the first, which they are held against.

    Args:
        results: take it all.
        spec: of the model.
        device: to draw on.
        pictures: alone, for each option, of which the median counts.
        batches_each: full batches for each batch size.
    """
    flops = picture_flops(spec)
    peak = peak_of(device)
    best, best_s = OPTIONS[0], float("inf")
    rows: list[tuple[Cell, ...]] = []
    eager_s = 0.0
    for option in OPTIONS:
        if option.needs_cuda and device.type != "cuda":
            rows.append((option.name, "needs CUDA", "", "", "", ""))
            continue
        try:
            taken = await one_at_a_time(option, spec, device, pictures)
        except Exception as error:
            if option is OPTIONS[0]:
                raise
            rows.append((option.name, failure(option, error), "", "", "", ""))
            continue
        whole_s = statistics.median(each.whole for each in taken)
        denoising_s = statistics.median(each.denoising for each in taken)
        eager_s = eager_s or whole_s
        rows.append(
            (
                option.name,
                whole_s,
                denoising_s,
                1000 * denoising_s / spec.steps,
                share_of_peak(flops / whole_s, peak),
                eager_s / whole_s,
            )
        )
        if whole_s < best_s:
            best, best_s = option, whole_s
    results.table(
        f"One picture of {spec.name}, {spec.steps} steps with guidance",
        ("option", "seconds", "of them denoising", "ms a step", "share of peak", "times as fast as eager"),
        rows,
    )
    await by_batch(results, {OPTIONS[0].name: OPTIONS[0], best.name: best}, spec, device, batches_each, flops, peak)
    return Seconds(served=eager_s, best=best_s)


async def one_at_a_time(option: Option, spec: Spec, device: torch.device, pictures: int) -> list[Picture]:
    """Pictures that nothing else is drawn with."""
    async with drawing(option, spec, device, max_batch=1) as pool:
        await draw(pool, spec, device, 0)
        return [await draw(pool, spec, device, 1 + number) for number in range(pictures)]


async def by_batch(
    results: Results,
    options: dict[str, Option],
    spec: Spec,
    device: torch.device,
    batches_each: int,
    flops: float,
    peak: float | None,
) -> None:
    """Pictures a second while the batch is full. Of an option that fails at some size, no larger one is tried."""
    rows: list[tuple[Cell, ...]] = []
    series = []
    for option in options.values():
        rates: list[float] = []
        for batch in spec.batches:
            try:
                rates.append(await full_batches(option, spec, device, batch, batches_each))
            except Exception as error:
                if option is OPTIONS[0]:
                    raise
                rows.append((option.name, batch, failure(option, error), ""))
                break
            rows.append((option.name, batch, rates[-1], share_of_peak(flops * rates[-1], peak)))
        series.append(Series(option.name, tuple(map(float, spec.batches[: len(rates)])), tuple(rates)))
    results.table("Pictures a second", ("option", "batch", "pictures a second", "share of peak"), rows)
    results.plot("GPU: pictures a second by batch", "pictures in a batch", "pictures a second", series, log_x=True)


async def full_batches(option: Option, spec: Spec, device: torch.device, batch: int, batches_each: int) -> float:
    """Pictures a second, so many at a time."""
    async with drawing(option, spec, device, max_batch=batch) as pool:
        await draw_together(pool, spec, device, batch)
        began = time.perf_counter()
        await draw_together(pool, spec, device, batch * batches_each)
        return batch * batches_each / (time.perf_counter() - began)


def failure(option: Option, error: Exception) -> str:
    """Print why an option failed, all of it, and return the cell of a table that says so."""
    print(f"option failed: {option.name}", file=sys.stderr)
    traceback.print_exception(error)
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    message = " ".join(str(error).split()).replace("|", "/")
    return f"FAILED: {type(error).__name__}: {message}"[:CELL_CHARACTERS]


@asynccontextmanager
async def drawing(option: Option, spec: Spec, device: torch.device, max_batch: int) -> AsyncIterator[LocalPool]:
    """The pool of one process, with a decoder of its own."""
    decoder = option.make(spec, device)
    pool = LocalPool(decoder, max_batch=max_batch, max_decode_batch=MAX_DECODE_BATCH)
    pool.start(torch.randn(spec.states_shape))
    try:
        yield pool
    finally:
        await pool.close(drain_s=0)
        del decoder
        if device.type == "cuda":
            torch.cuda.empty_cache()


async def draw(pool: LocalPool, spec: Spec, device: torch.device, number: int) -> Picture:
    """One picture."""
    side = picture_side(spec)
    job = RenderJob(
        id=f"picture-{number}",
        states=torch.randn(spec.states_shape),
        negative_states=None,
        width=side,
        height=side,
        steps=spec.steps,
        guidance_scale=GUIDANCE_SCALE,
        scheduler="ddim",
        seed=number,
    )
    began = denoised = time.perf_counter()
    async for update in pool.render(job):
        if isinstance(update, Progress) and update.step == update.steps:
            denoised = time.perf_counter()
    return Picture(denoised - began, time.perf_counter() - began)


async def draw_together(pool: LocalPool, spec: Spec, device: torch.device, pictures: int) -> None:
    """As many at a time as the batch takes."""
    async with asyncio.TaskGroup() as drawing_all:
        for number in range(pictures):
            drawing_all.create_task(draw(pool, spec, device, number))


@torch.inference_mode()
def picture_flops(spec: Spec) -> float:
    """Floating point operations of one picture: of its UNet calls, and of the VAE. A fused multiply-add is two.

    Counted without computing anything, because not every kernel of a device is known to the counter.
    """
    decoder = random_decoder(spec, torch.device("meta"))
    return ROWS * spec.steps * unet_flops(decoder, spec) + vae_flops(decoder, spec)


def unet_flops(decoder: DiffusionDecoder, spec: Spec) -> float:
    """Of one row of one UNet call, by a decoder on the meta device."""
    latents = torch.zeros(1, 4, spec.unet["sample_size"], spec.unet["sample_size"], device=decoder.device)
    states = torch.zeros(1, *spec.states_shape, device=decoder.device, dtype=decoder.dtype)
    condition = Conditioning(decoder.projector(states), {})
    with FlopCounterMode(display=False) as counted:
        decoder.predict(latents, torch.zeros(1, device=decoder.device), condition)
    return float(counted.get_total_flops())


def vae_flops(decoder: DiffusionDecoder, spec: Spec) -> float:
    """Of one picture's decoding, likewise."""
    latents = torch.zeros(1, 4, spec.unet["sample_size"], spec.unet["sample_size"], device=decoder.device)
    with FlopCounterMode(display=False) as counted:
        decoder.decode(latents)
    return float(counted.get_total_flops())


def picture_side(spec: Spec) -> int:
    """Pixels of a picture's side."""
    side: int = spec.unet["sample_size"] * 2 ** (len(spec.vae["block_out_channels"]) - 1)
    return side


def peak_of(device: torch.device) -> float | None:
    """FLOP/s that the device could do, if that is known."""
    return peak_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_named(name: str) -> float | None:
    """The same of a GPU by its name, such as ``NVIDIA H100 80GB HBM3``."""
    own = name.removeprefix("NVIDIA ")
    return next((peak for known, peak in PEAKS.items() if re.fullmatch(known, own)), None)


def share_of_peak(flops_per_s: float, peak: float | None) -> float | str:
    """Of a chip whose peak is known."""
    return flops_per_s / peak if peak else "unknown"
