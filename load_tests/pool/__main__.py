"""``python -m load_tests.pool [--quick] [BENCHMARK ...]``: the goals of the pool, with their conditions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import torch

from load_tests.conditions import threads_here
from load_tests.pool import commands, handoff, latency, memory, previews, throughput, unet_share
from load_tests.pool.bench import FULL, QUICK, Bench, open_bench
from load_tests.pool.traffic import MAX_BATCH
from load_tests.redis_server import redis_version
from load_tests.results import arguments_of

BENCHMARKS: dict[str, Callable[[Bench], Coroutine[Any, Any, None]]] = {
    "throughput": throughput.measure,
    "unet_share": unet_share.measure,
    "latency": latency.measure,
    "handoff": handoff.measure,
    "commands": commands.measure,
    "memory": memory.measure,
    "previews": previews.measure,
}


def main() -> None:
    """Measure and print."""
    parser = arguments_of("pool", __doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of torch in each process; more than the cores that are free makes all numbers noise",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.benchmarks) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    with open_bench(torch.device(arguments.device), QUICK if arguments.quick else FULL) as bench:
        describe(bench)
        for name in arguments.benchmarks or BENCHMARKS:
            print(f"\n{name}", flush=True)
            asyncio.run(BENCHMARKS[name](bench))
        bench.results.write(arguments.json)


def describe(bench: Bench) -> None:
    """Print the conditions."""
    parameters = sum(parameter.numel() for parameter in bench.decoder.unet.parameters())
    bench.results.describe(
        bench.decoder.device,
        f"{threads_here()} in each process",
        f"UNet of {parameters / 1e6:.1f} M parameters in {bench.decoder.dtype} on "
        f"{bench.spec.latent_side}x{bench.spec.latent_side} latents, {bench.decoder.image_size}-pixel pictures",
        f"DDIM, batches of {MAX_BATCH} jobs",
        f"{redis_version(bench.redis_url)} on loopback",
        f"{bench.scale.rounds} rounds by turns, medians",
    )


if __name__ == "__main__":
    main()
