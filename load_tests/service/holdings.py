"""What a service holds: documents, requests, image jobs, tasks, keys, files, memory. At rest, what has leaked.

It is seen from outside: by the metrics of server and worker, the keys of their Redis, and what the system says of their
processes. A service that somebody else started shows its metrics alone, which tell of the memory and the files of the
server's own process.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from load_tests.service.deployment import Deployment

SERVER_AT_REST = (
    "dreamserve_documents_running",
    "dreamserve_admission_waiting",
    "dreamserve_admission_reserved_tokens",
    "dreamserve_admission_reserved_picture_seconds",
    "dreamserve_journal_documents",
    "dreamserve_journal_bytes",
    "dreamserve_pool_jobs_waiting",
    "dreamserve_pool_jobs_running",
)
VLLM_AT_REST = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
WORKER_AT_REST = ("dreamserve_worker_jobs_held",)
"""Gauges of what is held for callers: all 0 when nobody asks for anything. Only a stand-in has none of vLLM's."""

TASKS = "dreamserve_asyncio_tasks"
STANDING_KEY = re.compile(r":(alive|requests|workers|worker:.*|replies:.*|jobs:.*|states:.*)$")
"""Keys that are there because servers and workers are, or that are a cache with a time to live."""
LINE = re.compile(r":jobs:")
"""Streams of waiting jobs: they stay, and are empty at rest."""
LOOK_EVERY_S = 1.0
SMALL_REQUEST = {"input": "Hello.", "max_tokens": 1, "images": {"max": 0}}


@dataclass(frozen=True, slots=True)
class Process:
    """One process.

    Attributes:
        resident: bytes of memory.
        anonymous: of these, those that are no pages of files, which the system takes and gives as it likes; None if
            that is not known.
        files: open file descriptors, but for those to Redis.
        redis_connections: connections to Redis, which are kept for later, up to a limit.
        tasks: on its event loop; None for a process that has none, or tells of none.
    """

    resident: int
    anonymous: int | None
    files: int
    redis_connections: int = 0
    tasks: int | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a service holds at one moment.

    Attributes:
        at: Unix time in seconds.
        gauges: of what is held for callers, which are 0 at rest.
        processes: by name.
        keys: of its Redis, those that are not for servers and workers themselves; and jobs in line.
    """

    at: float
    gauges: Mapping[str, float]
    processes: Mapping[str, Process]
    keys: tuple[str, ...] = field(repr=False)


def leaks(now: Holdings, before: Holdings) -> dict[str, str]:
    """What a service at rest holds and should not, by its name.

    Args:
        now: with nobody asking for anything.
        before: the same, after the first answers.
    """
    found = {name: f"{value:g}" for name, value in now.gauges.items() if value}
    if now.keys:
        found["Redis keys"] = f"{len(now.keys)}, such as {now.keys[0]}"
    for name, process in now.processes.items():
        earlier = before.processes.get(name)
        if earlier is None:
            found[f"processes: {name}"] = "was not there before"
            continue
        if process.files > earlier.files:
            found[f"file descriptors of {name}"] = f"{process.files}, before {earlier.files}"
        if process.tasks is not None and earlier.tasks is not None and process.tasks > earlier.tasks:
            found[f"tasks of {name}"] = f"{process.tasks}, before {earlier.tasks}"
    for name in before.processes.keys() - now.processes.keys():
        found[f"processes: {name}"] = "has ended"
    return found


async def look(service: Deployment, client: httpx.AsyncClient) -> Holdings:
    """See what a service holds.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    served = await _metrics(client, f"{service.url}/metrics")
    worked = await _metrics(client, f"{service.worker_url}/metrics") if service.worker_url else {}
    gauges = {name: served[name] for name in SERVER_AT_REST}
    gauges |= {name: served[name] for name in VLLM_AT_REST if name in served}
    gauges |= {name: worked[name] for name in WORKER_AT_REST if service.worker_url}
    tasks = {"server": served.get(TASKS), "worker": worked.get(TASKS)}
    processes = await asyncio.to_thread(_processes, service, tasks)
    if service.roots is None and "process_resident_memory_bytes" in served:
        told = served["process_resident_memory_bytes"], served["process_open_fds"], served.get(TASKS, 0)
        resident, files, count = map(int, told)
        processes["server"] = Process(resident, None, files, tasks=count)
    return Holdings(time.time(), gauges, processes, await _keys(service))


async def at_rest(
    service: Deployment, client: httpx.AsyncClient, before: Holdings | None, limit_s: float
) -> tuple[Holdings, dict[str, str]]:
    """What a service holds when nobody asks for anything any more, and what of it has leaked.

    Connections close, times to live pass: so this looks until nothing is left that should not be, or for ``limit_s``.

    Args:
        service: that nobody uses meanwhile.
        client: to ask it with.
        before: what it held at rest before; None if that is not known, and then only what must be 0 can have leaked.
        limit_s: seconds.
    """
    give_up_at = time.monotonic() + limit_s
    while True:
        # vLLM tells its load with what it sends, and after requests that were aborted it sends nothing.
        await client.post(f"{service.url}/v1/interleaved", json=SMALL_REQUEST)
        await asyncio.sleep(LOOK_EVERY_S)
        now = await look(service, client)
        found = leaks(now, before or now)
        if not found or time.monotonic() > give_up_at:
            return now, found


def _processes(service: Deployment, tasks: Mapping[str, float | None]) -> dict[str, Process]:
    redis_port = None if service.redis_url is None else httpx.URL(service.redis_url).port
    found: dict[str, Process] = {}
    for name, process in service.processes().items():
        connections = process.net_connections("tcp") if redis_port is not None else []
        to_redis = sum(1 for each in connections if each.raddr and each.raddr.port == redis_port)
        count, memory = tasks.get(name), process.memory_info()
        found[name] = Process(
            resident=memory.rss,
            anonymous=memory.rss - memory.shared,
            files=process.num_fds() - to_redis,
            redis_connections=to_redis,
            tasks=None if count is None else int(count),
        )
    return found


async def _metrics(client: httpx.AsyncClient, url: str) -> dict[str, float]:
    """Metrics by name, summed over their labels."""
    response = await client.get(url)
    response.raise_for_status()
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
    return samples


async def _keys(service: Deployment) -> tuple[str, ...]:
    """Keys of documents, pictures and jobs."""
    if service.redis_url is None:
        return ()
    async with Redis.from_url(service.redis_url, decode_responses=True) as redis:
        names = [name async for name in redis.scan_iter(count=1000)]
        lines = {name: await redis.xlen(name) for name in names if LINE.search(name)}
    held = {name for name in names if not STANDING_KEY.search(name)}
    return tuple(sorted(held | {f"{name} ({length} jobs)" for name, length in lines.items() if length}))
