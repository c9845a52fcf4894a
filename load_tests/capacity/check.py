"""``python -m load_tests.capacity.check``: whether the simulation tells what really happens, on this machine.

Starts the service with one worker, measures its profile, sends it answers with pictures at random times, and lets the
simulation make the same answers, arriving at the same times. The server and the worker each get cores of their own,
where there are enough: the simulation knows of none that they share.
"""

import asyncio
import os
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from load_tests.capacity.measure import Known, measure, picture_seconds
from load_tests.capacity.plan import percentile
from load_tests.capacity.profile import Profile
from load_tests.capacity.recording import Recording, record_at
from load_tests.capacity.simulation import simulate
from load_tests.results import Results, arguments_of
from load_tests.service.deployment import deployed
from load_tests.service.threads import service_threads

GOAL = 0.15
BUSY = 0.6
"""Share of the time that the worker shall draw."""

REQUESTS = ("Draw a big red circle.", "Draw a small blue star.", "Tell me a story.", "Draw a green square.")


def bodies(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Requests for documents with pictures."""
    return [{"input": rng.choice(REQUESTS), "seed": rng.getrandbits(31)} for _ in range(count)]


async def record_traffic(url: str, profile: Profile, seconds: float) -> list[Recording]:
    """Answers at random times, so many that the worker is busy for its share."""
    rng = random.Random(1)
    tried = await record_at(url, bodies(rng, 8), [0.0] * 8)
    pictures = statistics.mean(len(recording.picture_s) for recording in tried)
    rate = BUSY * profile.painter.pictures_per_s / pictures
    arrivals_s = sorted(rng.uniform(0, seconds) for _ in range(round(rate * seconds)))
    return await record_at(url, bodies(rng, len(arrivals_s)), arrivals_s)


def compare(results: Results, profile: Profile, recordings: list[Recording]) -> None:
    """Tell what was measured beside what was simulated."""
    times = simulate(profile, [recording.answer for recording in recordings], servers=1, workers=1)
    drawn = [recording for recording in recordings if recording.picture_s]
    measures = {
        "first picture": ([recording.picture_s[0] for recording in drawn], times.first_picture_s),
        "picture": (
            [seconds for recording in drawn for seconds in picture_seconds(recording)],
            times.picture_s,
        ),
        "answer": ([recording.ended_s for recording in recordings], times.answer_s),
    }
    rows, goals = [], []
    for name, (real, simulated) in measures.items():
        for percent in (50, 95):
            was, told = percentile(real, percent), percentile(simulated, percent)
            rows.append((f"{name}, p{percent}", was, told, told / was))
        goals.append((name, abs(statistics.mean(simulated) / statistics.mean(real) - 1)))
    title = "Seconds from the request; of a picture, from its dream states"
    results.table(title, ("what", "real", "simulated", "ratio"), rows)
    for name, error in goals:
        results.at_most(f"capacity_error_of_mean_{name.replace(' ', '_')}", error, GOAL)


def pin(processes: Mapping[str, psutil.Process]) -> None:
    """Give the worker the last of the cores, and the server the others; one core is for all of them."""
    *others, last = sorted(os.sched_getaffinity(0))
    for name, process in processes.items():
        cores = [last] if name == "worker" else others or [last]
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)


def main() -> None:
    """Measure, simulate and compare."""
    arguments = arguments_of("capacity.check", __doc__).parse_args()
    settings = {"DREAMSERVE_LLM__MAX_NUM_BATCHED_TOKENS": str(Known().max_tokens), "OMP_NUM_THREADS": "1"}
    results = Results("capacity")
    with TemporaryDirectory() as logs, deployed("worker", settings, Path(logs)) as deployment:
        pin(deployment.processes())
        results.describe(
            torch.device("cpu"), service_threads("worker", settings), "the embedded model, one server and one worker"
        )
        profile = asyncio.run(measure(deployment.url, Known("this machine, embedded model")))
        seconds = 30 if arguments.quick else 120
        recordings = asyncio.run(record_traffic(deployment.url, profile, seconds))
    compare(results, profile, recordings)
    results.write(arguments.json)


if __name__ == "__main__":
    main()
