"""``python -m load_tests.contention``: how steadily text comes while pictures of other requests are drawn.

The server with vLLM and a worker are real processes. Four callers read text all the time; in two of four slices eight
others keep the worker's batch full. In one of these the worker has cores of its own, in the other it shares those of
the text. In a third the worker is idle, and its cores run loops that touch no memory and know nothing of the service:
what these do to the text is done by the machine. Gaps are those between the events of one text as its caller sees them.
Every other round takes the slices backwards, and none begins before the worker draws, or has stopped.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from load_tests.contention.callers import PICTURE_CALLERS, PICTURE_STEPS, TEXT_CALLERS, asking_for_pictures, text_gaps
from load_tests.contention.cores import Halves, empty_loops, halves, move
from load_tests.results import Results, Series, arguments_of
from load_tests.service.deployment import Deployment, deployed
from load_tests.service.threads import service_threads
from server.demo import terminated

QUIET, LOOPS, APART, TOGETHER = (
    "nothing",
    "empty loops on other cores",
    "pictures on other cores",
    "pictures on the same cores",
)
BUSY = 0.2
"""Share of a core from which on a worker is drawing."""
LOOK_S = 0.5
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
WITHIN_S = 120
PATIENCE_S = 3600


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: by turns.
        seconds: of each slice.
    """

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What goes on while text is read.

    Attributes:
        callers: of pictures.
        worker: cores that the worker has.
        loops: cores that are kept busy with nothing.
    """

    callers: int
    worker: frozenset[int]
    loops: frozenset[int] = frozenset()


FULL = Scale(rounds=7, seconds=10.0)
QUICK = Scale(rounds=1, seconds=4.0)


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("contention", __doc__).parse_args()
    signal.signal(signal.SIGTERM, terminated)  # servers are processes of their own: whatever ends this ends them
    scale = QUICK if arguments.quick else FULL
    results = Results("contention")
    cores = halves()
    if cores is None:
        results.cannot_run("there is one core, and text and pictures are to have one each")
    else:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores.text)  # and with this process all that it starts
        try:
            measure(results, cores, scale)
        finally:
            os.sched_setaffinity(0, before)
    results.write(arguments.json)


def measure(results: Results, cores: Halves, scale: Scale) -> None:
    """Start the service, measure in rounds, and report."""
    settings = {
        "DREAMSERVE_LLM__CPU_THREADS": str(len(cores.text)),
        "OMP_NUM_THREADS": str(len(cores.pictures)),  # of the worker: vLLM has the setting above
        # As many pictures as there are callers, however long they take.
        "DREAMSERVE_ADMISSION__MAX_PICTURE_WAIT_S": str(PATIENCE_S),
        "DREAMSERVE_ADMISSION__MAX_WAIT_S": str(PATIENCE_S),
        "DREAMSERVE_LIMITS__IMAGE_TIMEOUT_S": str(PATIENCE_S),
    }
    with TemporaryDirectory() as logs, deployed("worker", settings, Path(logs)) as service:
        results.describe(
            torch.device("cpu"),
            service_threads("worker", settings),
            f"text and its callers on {len(cores.text)} cores, the worker on {len(cores.pictures)}"
            f"{', which are threads of the same physical cores' if cores.siblings() else ''}",
            f"{TEXT_CALLERS} callers of text, {PICTURE_CALLERS} of pictures with {PICTURE_STEPS} steps",
            f"{scale.rounds} rounds by turns, {scale.seconds:g} s each",
        )
        gaps = asyncio.run(slices(service, cores, scale))
    report(results, gaps)


async def slices(service: Deployment, cores: Halves, scale: Scale) -> dict[str, list[np.ndarray]]:
    """Gaps in milliseconds of each slice, by what was drawn meanwhile."""
    worker = service.processes()["worker"]
    conditions = {
        QUIET: Meanwhile(0, worker=cores.pictures),
        LOOPS: Meanwhile(0, worker=cores.pictures, loops=cores.pictures),
        APART: Meanwhile(PICTURE_CALLERS, worker=cores.pictures),
        TOGETHER: Meanwhile(PICTURE_CALLERS, worker=cores.text),
    }
    gaps: dict[str, list[np.ndarray]] = {name: [] for name in conditions}
    await text_gaps(service.url, scale.seconds)  # what the first requests pay for is not to be seen
    for number in range(scale.rounds):
        for name in reversed(conditions) if number % 2 else conditions:
            meanwhile = conditions[name]
            move(worker, meanwhile.worker)
            async with AsyncExitStack() as stack:
                if meanwhile.callers:
                    await stack.enter_async_context(asking_for_pictures(service.url, meanwhile.callers))
                await until_worker(worker, draws=meanwhile.callers > 0)
                stack.enter_context(empty_loops(meanwhile.loops))
                gaps[name].append(1000 * await text_gaps(service.url, scale.seconds))
    return gaps


async def until_worker(worker: psutil.Process, *, draws: bool) -> None:
    """Return when the worker is drawing, or no longer is.

    Raises:
        RuntimeError: it does not begin, or stop.
    """
    worker.cpu_percent()
    for _ in range(int(WITHIN_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        if (worker.cpu_percent() > 100 * BUSY) == draws:
            return
    raise RuntimeError(f"the worker {'draws nothing' if draws else 'still draws'} {WITHIN_S} s after it was told to")


def report(results: Results, gaps: Mapping[str, list[np.ndarray]]) -> None:
    """Print the table and the goal."""
    p99s = {name: np.array([np.percentile(each, 99) for each in of_slices]) for name, of_slices in gaps.items()}
    ratios = {name: float(np.median(of_slices / p99s[QUIET])) for name, of_slices in p99s.items()}
    rows = []
    for name, of_slices in gaps.items():
        together = np.concatenate(of_slices)
        p50, p99 = np.percentile(together, [50, 99])
        rows.append((name, len(together), p50, p99, float(min(p99s[name])), float(max(p99s[name])), ratios[name]))
    columns = ("meanwhile", "gaps", "p50, ms", "p99, ms", "lowest p99 of a slice, ms", "highest, ms", "to nothing's")
    results.table("Gaps between events of text", columns, rows)
    shown = [
        Series(name, PERCENTILES, tuple(map(float, np.percentile(np.concatenate(of_slices), PERCENTILES))))
        for name, of_slices in gaps.items()
    ]
    results.plot("Gaps between events of text", "percentile", "milliseconds", shown, log_y=True)
    results.at_most("contention_text_p99_while_pictures_render", ratios[APART], 1.10)


if __name__ == "__main__":
    main()
