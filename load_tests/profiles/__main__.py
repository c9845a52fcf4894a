"""``python -m load_tests.profiles``: flame graphs of the server's text and of the worker's pictures, and a roofline.

py-spy watches a server process that hands out text, as in the fan-out benchmark, and a worker that draws with the
embedded checkpoint. Compiled code counts for the Python function that calls it.
"""

import asyncio
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from load_tests.conditions import counted
from load_tests.profiles import roofline, sampling
from load_tests.profiles.paths import OPEN_JOBS, READERS, WORKER_THREADS, pictures_under_load, text_under_load
from load_tests.results import Results, arguments_of
from server.demo import terminated

HERE = Path(__file__).parent
QUICK_OUT = Path("out/load_tests/profiles")
PATHS = {"text": text_under_load, "pictures": pictures_under_load}
TITLES = {"text": "The server while it hands out text", "pictures": "A worker that draws"}
HOTTEST = 12
NO_PY_SPY = "there is no py-spy: pip install py-spy"


def main() -> None:
    """Sample and print."""
    parser = arguments_of("profiles", __doc__)
    parser.add_argument("--out", type=Path, help=f"folder for the flame graphs; here, or {QUICK_OUT} for a quick run")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)  # servers are processes of their own: whatever ends this ends them
    out: Path = arguments.out or (QUICK_OUT if arguments.quick else HERE)
    out.mkdir(parents=True, exist_ok=True)
    results = Results("profiles")
    results.describe(
        torch.device("cpu"),
        f"{counted(WORKER_THREADS)} in the worker",
        f"text: a server process with {READERS} readers; pictures: a worker with {OPEN_JOBS} open jobs",
        f"{sampling.SAMPLES_PER_S} samples a second",
    )
    program = sampling.py_spy()
    if program is None:
        results.cannot_run(NO_PY_SPY)
    else:
        try:
            asyncio.run(profile(results, program, 3 if arguments.quick else 20, out))
        except subprocess.CalledProcessError as error:  # most systems let only root watch what is no child of his
            results.cannot_run(f"py-spy: {error.stderr.strip()}")
    roofline.report(results)
    results.write(arguments.json)


async def profile(results: Results, program: str, seconds: float, out: Path) -> None:
    """Both paths, one after the other."""
    for name, under_load in PATHS.items():
        with TemporaryDirectory() as logs:
            async with under_load(Path(logs)) as pid:
                sampled = await asyncio.to_thread(sampling.stacks, program, pid, seconds)
                svg = out / f"{name}.svg"
                await asyncio.to_thread(sampling.flame_graph, program, pid, seconds, svg, TITLES[name])
        print(f"flame graph of {name}: {svg}")
        results.table(
            f"CPU time of {name}, by the library whose function was running",
            ("library", "share"),
            sampling.shares_of_layers(sampled),
        )
        results.table(f"Hottest functions of {name}", ("function", "share"), sampling.hottest(sampled, HOTTEST))


if __name__ == "__main__":
    main()
