"""The fewest servers and workers with which a load keeps its promise."""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from load_tests.capacity.profile import Profile
from load_tests.capacity.simulation import Times, simulate
from load_tests.capacity.traffic import Traffic

PERCENTILE = 95
WARM_UP = 0.25  # of the simulated time
AMPLE = 1.5
"""Times what saturation needs: where the other kind of machine is to be no bottleneck."""

PROMISES = tuple(field.name for field in fields(Times) if field.name.endswith("_s"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How many machines a load needs.

    Attributes:
        servers: GPUs with the language model.
        workers: GPUs that draw.
        least_servers: fewer would be busier than they may be.
        least_workers: likewise.
        times: with these machines.
    """

    servers: int
    workers: int
    least_servers: int
    least_workers: int
    times: Times


def percentile(seconds: Sequence[float], percent: int = PERCENTILE) -> float:
    """Of what was measured; not a number where nothing was."""
    if len(seconds) < 2:
        return seconds[0] if seconds else math.nan
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def keeps(times: Times, slo: Mapping[str, float]) -> bool:
    """Whether 95 % of the answers were as fast as promised. What nobody asked for was."""
    if times.unfinished:
        return False
    return all(not (got := getattr(times, name)) or percentile(got) <= limit for name, limit in slo.items())


def plan(
    profile: Profile, traffic: Traffic, slo: Mapping[str, float], *, most_busy: float, seconds: float, seed: int
) -> Plan:
    """Find them: first the workers with ample servers, then the servers with these workers.

    Args:
        profile: of the machines.
        traffic: that comes.
        slo: seconds that 95 % stay within, by names of :data:`PROMISES`.
        most_busy: share of full load that machines may have on average: what is left is for peaks, and for machines
            that are away.
        seconds: of traffic to simulate.
        seed: of the traffic.

    Raises:
        ValueError: no number of machines keeps the promise.
    """
    answers = list(traffic.answers(random.Random(seed), seconds))
    least_servers = math.ceil(traffic.rate * seconds_of_a_server(profile, traffic) / most_busy)
    least_workers = math.ceil(traffic.rate * traffic.images / profile.painter.pictures_per_s / most_busy)

    def with_machines(servers: int, workers: int) -> Times:
        return simulate(profile, answers, servers, workers, counted_from_s=WARM_UP * seconds)

    ample_servers = math.ceil(AMPLE * least_servers) + 1
    workers = least_workers
    if least_workers:
        workers = fewest(least_workers, lambda workers: keeps(with_machines(ample_servers, workers), slo))
    servers = fewest(least_servers, lambda servers: keeps(with_machines(servers, workers), slo))
    return Plan(servers, workers, least_servers, least_workers, with_machines(servers, workers))


def seconds_of_a_server(profile: Profile, traffic: Traffic) -> float:
    """What one answer takes of a replica whose every step is full."""
    model = profile.language_model
    decoded = traffic.text_tokens + traffic.images + 1
    computed = traffic.prompt_tokens + traffic.images * (profile.query_tokens + profile.image_tokens)
    context = traffic.prompt_tokens + computed / 2 + decoded / 2
    each = model.step_s / model.max_seqs + model.token_s + model.context_s * context
    return decoded * each + computed * model.token_s


def fewest(least: int, enough: Callable[[int], bool]) -> int:
    """The smallest number from ``least`` on that is enough, where every bigger one is too.

    Raises:
        ValueError: eight times as many are not enough: then it is not for want of them.
    """
    low, high = least, least
    while not enough(high):
        low, high = high + 1, max(high + 1, math.ceil(high * 1.25))
        if high > 8 * least + 8:
            raise ValueError("no number of machines keeps this promise: what it takes without waiting is longer")
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
