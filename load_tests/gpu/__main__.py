"""``python -m load_tests.gpu``: the engine at the size of Stable Diffusion 2.1, with random weights, on a GPU.

Pictures of 512 pixels, 50 steps with guidance, in float16, by the pool of one process, VAE and PNG included. Each
option is a decoder of its own that draws the same pictures. The share of the chip's peak counts the operations of UNet
and VAE by torch's FlopCounter, and its data sheet's dense float16.
"""

import asyncio
from datetime import UTC, datetime

import torch

from load_tests.conditions import threads_here
from load_tests.gpu.measure import GOAL_S, measure
from load_tests.gpu.model import SPECS
from load_tests.results import Results, arguments_of

NOTHING_MEASURED = "there is no CUDA device: nothing was measured on a GPU"


def main() -> None:
    """Measure and print."""
    parser = arguments_of("gpu", __doc__)
    parser.add_argument("--spec", choices=tuple(SPECS), default="sd21", help="model; tiny runs on a CPU, too")
    arguments = parser.parse_args()
    results = Results("gpu")
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        results.cannot_run(NOTHING_MEASURED)
    if on_gpu or arguments.spec == "tiny":
        device = torch.device("cuda" if on_gpu else "cpu")
        results.describe(device, threads_here(), f"random weights of {arguments.spec}", f"{datetime.now(UTC):%Y-%m-%d}")
        pictures, batches_each = (3, 2) if arguments.quick else (10, 4)
        seconds = asyncio.run(measure(results, SPECS[arguments.spec], device, pictures, batches_each))
        if on_gpu and arguments.spec == "sd21":
            results.at_most("gpu_seconds_for_one_picture_as_served", seconds.served, GOAL_S)
            results.at_most("gpu_seconds_for_one_picture_best_option", seconds.best, GOAL_S)
    results.write(arguments.json)


if __name__ == "__main__":
    main()
