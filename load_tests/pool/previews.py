"""What previews cost the batch: the time of a full batch with and without them.

The decoder of this model is heavy for its UNet, so that all previews that are asked for would take too much, and the
budget has something to keep. The same batch with a budget that nothing exceeds tells how much.
"""

import asyncio
import statistics
from collections import defaultdict

from load_tests.pool.bench import Bench
from load_tests.pool.model import ModelSpec, random_decoder
from load_tests.pool.pools import local_pool
from load_tests.pool.traffic import MAX_BATCH, draw, make_job
from load_tests.pool.unet_calls import UNetCalls, seconds_per_row
from models.diffusion.previews import PREVIEW_SHARE
from server.pool.base import DiffusionPool

HEAVY_DECODER = ModelSpec(vae_channels=(48, 64, 64))
STEPS = 20
PREVIEWS = 6
GUIDANCE_SCALE = 3.5
NO_LIMIT = 1e6


async def measure(bench: Bench) -> None:
    """Measure in rounds, and print."""
    calls = UNetCalls(bench.folder / "preview-calls")
    decoder = random_decoder(HEAVY_DECODER, bench.decoder.device, calls)
    ratios = defaultdict(list)
    async with (
        local_pool(decoder, HEAVY_DECODER, preview_share=PREVIEW_SHARE) as sparing,
        local_pool(decoder, HEAVY_DECODER, preview_share=NO_LIMIT) as lavish,
    ):

        async def row_s(pool: DiffusionPool, name: str, previews: int) -> float:
            first = len(calls)
            async with asyncio.TaskGroup() as drawing:
                for number in range(MAX_BATCH):
                    job = make_job(
                        HEAVY_DECODER,
                        decoder.image_size,
                        f"{name}-{number}",
                        steps=STEPS,
                        guidance_scale=GUIDANCE_SCALE,
                        previews=previews,
                    )
                    drawing.create_task(draw(pool, job))
            return seconds_per_row(calls.read(first))

        await row_s(sparing, "first", PREVIEWS)
        await row_s(lavish, "first", PREVIEWS)
        for number in range(bench.scale.rounds):
            without = await row_s(sparing, f"without-{number}", 0)
            ratios["within their budget"].append(await row_s(sparing, f"with-{number}", PREVIEWS) / without)
            ratios["without limit"].append(await row_s(lavish, f"all-{number}", PREVIEWS) / without)
        stats = {"within their budget": sparing.stats(), "without limit": lavish.stats()}
    bench.results.table(
        "A batch with previews",
        ("previews", "time, in that without", "drawn", "left out"),
        [
            (name, statistics.median(ratios[name]), of_name.previews, of_name.previews_left_out)
            for name, of_name in stats.items()
        ],
    )
    bench.results.at_most("batch_time_with_previews", statistics.median(ratios["within their budget"]), 1.1)
