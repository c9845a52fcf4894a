"""``/health/started``, ``/health/live``, ``/health/ready`` and ``/metrics``: what an orchestrator asks."""

import asyncio
from contextlib import suppress
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from server.api.routing import ERRORS, RunningService
from server.availability import State, UnavailableError
from server.interleave.journal.base import JournalLoad
from server.llm.engine import EngineDeadError
from server.observe import metrics
from server.observe.probes import exposition
from server.pool.base import PoolDeadError, PoolLoad
from server.schema.errors import APIError
from server.service import Service

POOL_LIMIT_S = 3.0  # a Redis that does not answer must not keep Prometheus from all other metrics
OUT_OF_REACH = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0, takes_jobs=False)

router = APIRouter(tags=["operations"], responses=ERRORS)


class Health(BaseModel):
    """The answer to a health check that passes."""

    status: Literal["started", "alive", "ready"]


@router.get("/health/started", summary="Has the model been loaded?")
async def started(service: RunningService) -> Health:
    """Passes from the first warm-up answer on, for good."""
    if service.state in (State.LOADING, State.FAILED):
        raise UnavailableError(service.state.value)
    return Health(status="started")


@router.get("/health/live", summary="Is the process worth keeping?")
async def live(service: RunningService) -> Health:
    """Fails when only a new process can serve again."""
    if service.state is State.FAILED:
        raise APIError(503, "the model cannot be served", type="server_error", code="server_failed")
    if service.state is State.READY:
        try:
            await service.backend.engine.health()
            await service.backend.pool.health()
        except EngineDeadError as error:
            raise APIError(503, str(error), type="server_error", code="engine_dead") from error
        except PoolDeadError as error:
            raise APIError(503, str(error), type="server_error", code="pool_dead") from error
    return Health(status="alive")


@router.get("/health", summary="The same, by the name that vLLM and its clients have for it")
@router.get("/health/ready", summary="May requests be sent here?")
async def ready(service: RunningService) -> Health:
    """Passes from the first warm-up answer on, until the server is told to stop."""
    await service.check()
    return Health(status="ready")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics_of_all(request: Request, service: RunningService) -> Response:
    """Those of this server, and vLLM's."""
    await record_readiness(service)
    with suppress(UnavailableError):  # not running
        record_journal(service.journal.load())
    return await exposition(request)


async def record_readiness(service: Service) -> None:
    """Note whether ``/health/ready`` passes, and how busy the pool is: for as long as it is there, also in a drain."""
    load, ready = OUT_OF_REACH, False
    with suppress(UnavailableError, EngineDeadError, TimeoutError):
        async with asyncio.timeout(POOL_LIMIT_S):
            load = await service.admission.pool_load()
            await service.check()
            ready = True
    metrics.READY.set(ready)
    record_load(load)


def record_load(load: PoolLoad) -> None:
    """Note how busy the pool is."""
    metrics.POOL_WAITING.set(load.queue_depth)
    metrics.POOL_RUNNING.set(load.running)
    metrics.POOL_WORK_AHEAD.set(load.seconds_ahead)
    metrics.POOL_WORKERS_ALIVE.set(load.workers_alive)


def record_journal(load: JournalLoad) -> None:
    """Note how much the journal holds."""
    metrics.JOURNAL_DOCUMENTS.set(load.documents)
    metrics.JOURNAL_BYTES.set(load.bytes)
    metrics.JOURNAL_MIRROR_LAG.set(load.mirror_lag_s)
