"""The service: a model from its start to its end, and the documents that it is making."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from server.backend import Backend, OpenBackend, warm_up
from server.interleave.document import DocumentRequest
from server.interleave.interceptor import Interceptor
from server.interleave.meter import DocumentMeter
from server.interleave.running import RunningDocument
from server.observe import metrics
from server.settings import Settings

WARM_UP_LIMIT_S = 600  # a server that takes longer for its first answer is of no use
LAST_EVENT_LIMIT_S = 10  # for what documents have started to end, once they have been told to

logger = logging.getLogger(__name__)


class State(Enum):
    """Where a service is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class UnavailableError(Exception):
    """The service takes no documents now.

    Attributes:
        reason: why: the state of the service, or ``"no_workers"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the server takes no requests: {reason}")
        self.reason = reason


class Service:
    """Opens the backend, warms it up, makes documents, and ends them all before it closes the backend.

    Args:
        settings: of the server.
        open_backend: opens what makes the documents.

    Attributes:
        settings: of the server.
        created: Unix time in seconds at which the service was made.
        state: where it is in its life.
        documents: that are being made.
    """

    def __init__(self, settings: Settings, open_backend: OpenBackend) -> None:
        self.settings = settings
        self.created = int(time.time())
        self.state = State.LOADING
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self._closing = asyncio.Event()
        self.documents: set[RunningDocument] = set()

    @property
    def backend(self) -> Backend:
        """What makes the documents.

        Raises:
            UnavailableError: it has not been warmed up yet, or is about to be closed.
        """
        if self.state is not State.READY or self._backend is None:
            raise UnavailableError(self.state.value)
        return self._backend

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load in the background; at the end, close everything."""
        life = asyncio.create_task(self._live(), name="backend")
        try:
            yield
        finally:
            # Loading is not interrupted: processes that are half started could not be stopped in good order.
            self._closing.set()
            await life

    async def _live(self) -> None:
        begin = time.perf_counter()
        try:
            async with self._open_backend(self.settings) as backend:
                if self.state is State.LOADING:
                    async with asyncio.timeout(WARM_UP_LIMIT_S):
                        await warm_up(backend)
                self._backend = backend
                if self.state is State.LOADING:
                    self.state = State.READY
                    metrics.READY.set(1)
                    logger.info("ready after %.1f s", time.perf_counter() - begin)
                await self._closing.wait()
                await self.drain(grace_s=0)
        except Exception:
            self.state = State.FAILED
            logger.exception("the model cannot be served")
        finally:
            metrics.READY.set(0)
            self._backend = None

    async def begin(self, request: DocumentRequest) -> RunningDocument:
        """Start to make a document.

        Raises:
            UnavailableError: the service takes no documents now, or none with pictures.
            PromptError: the request cannot become a context.
        """
        backend = self.backend
        if request.images.max > 0:
            await require_workers(backend)
        limits = self.settings.limits
        interceptor = Interceptor(backend.engine, backend.pool, request, backend.prompts, limits.image_timeout_s)
        meter = DocumentMeter()
        events = interceptor.events()
        try:
            started = await anext(events)
            if self.state is not State.READY:
                await events.aclose()
                raise UnavailableError(self.state.value)
        except BaseException:
            meter.close()
            raise
        document = RunningDocument(request.id, started, events, lambda: interceptor.usage, meter.observe)
        self.documents.add(document)
        document.task.add_done_callback(lambda _: self._ended(document, meter))
        return document

    def _ended(self, document: RunningDocument, meter: DocumentMeter) -> None:
        self.documents.discard(document)
        meter.close()
        logger.info("document %s: %s after %.2f s", document.id, meter.outcome, meter.seconds)

    async def drain(self, grace_s: float) -> None:
        """Take no more documents, let those at work go on for so many seconds, and end the rest with an error event."""
        if self.state is not State.FAILED:
            self.state = State.DRAINING
        metrics.READY.set(0)
        tasks = {document.task for document in self.documents}
        if not tasks:
            return
        logger.info("waiting for %d documents, %g s at most", len(tasks), grace_s)
        await asyncio.wait(tasks, timeout=grace_s)
        for document in tuple(self.documents):
            document.fail("shutdown", "the server was stopped before the document was finished")
        _, stuck = await asyncio.wait(tasks, timeout=LAST_EVENT_LIMIT_S)
        if stuck:
            logger.error("%d documents did not end within %g s", len(stuck), LAST_EVENT_LIMIT_S)

    async def check(self) -> None:
        """Return if documents can be made now.

        Raises:
            UnavailableError: not now.
            EngineDeadError: never again in this process.
        """
        backend = self.backend
        await backend.engine.health()
        await require_workers(backend)


async def require_workers(backend: Backend) -> None:
    """Return if pictures can be drawn now.

    Raises:
        UnavailableError: not now.
    """
    load = await backend.pool.load()
    if load.workers_alive == 0:
        raise UnavailableError("no_workers")
