"""``python -m load_tests.scale``: throughput over 1 to 8 workers, and what Redis takes at 1,000 pictures a second.

Workers are processes that are whole but for their UNet, which sleeps: as long for a batch as for one picture, as if
each had a device of its own. What they lose to each other is what the queue costs, and the cores that they share for
all the rest. Counted are denoising steps. Every other round takes the numbers of workers backwards, so that a machine
that becomes slower meanwhile is not taken for what more workers cost.

Redis is asked what CPU time its one thread took for pictures that a server's pool sends it and a simulated renderer
ends, which says all that a worker says and draws nothing. Python, on both sides of it, takes far more than Redis does,
so 1,000 a second are not reached: what they take is computed from the time for one picture.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from load_tests.conditions import threads_here
from load_tests.pool.model import SMALL, random_decoder
from load_tests.pool.traffic import MAX_BATCH
from load_tests.pool.unet_calls import UNetCalls
from load_tests.redis_server import redis_server, redis_version
from load_tests.results import Results, arguments_of
from load_tests.scale import redis_load, workers


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        workers: rising.
        rounds: the second one falling, and so on by turns.
        window_s: with each number of them, in each round.
        pictures: of each size, for what they cost Redis.
    """

    workers: tuple[int, ...]
    rounds: int
    window_s: float
    pictures: int


FULL = Scale(workers=(1, 2, 4, 8), rounds=2, window_s=20.0, pictures=3000)
QUICK = Scale(workers=(1, 4), rounds=1, window_s=4.0, pictures=200)


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("scale", __doc__).parse_args()
    scale = QUICK if arguments.quick else FULL
    results = Results("scale")
    torch.set_num_threads(1)
    with redis_server() as url, TemporaryDirectory() as folder:
        results.describe(
            torch.device("cpu"),
            f"{threads_here()} in each process",
            f"workers on the same machine, {MAX_BATCH} jobs a call, {workers.OPEN_JOBS} open for each worker",
            f"{scale.window_s:g} s with each number of workers, "
            f"{f'{scale.rounds} rounds, rising and falling by turns, means' if scale.rounds > 1 else 'once, rising'}",
            f"{redis_version(url)} on loopback",
        )
        asyncio.run(measure(results, url, Path(folder), scale))
    results.write(arguments.json)


async def measure(results: Results, url: str, folder: Path, scale: Scale) -> None:
    """Both, one after the other."""
    await workers.measure(results, url, folder, scale.workers, scale.rounds, scale.window_s)
    description = random_decoder(SMALL, torch.device("cpu"), UNetCalls(folder / "description")).description
    await redis_load.measure(results, url, description, scale.pictures)


if __name__ == "__main__":
    main()
