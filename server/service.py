"""The service: a model from its start to its end, the documents that it is making, and those that it stores."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from server.backend import Backend, OpenBackend, warm_up
from server.files.base import ImageStore
from server.files.opening import open_image_store
from server.interleave.document import DocumentRequest
from server.interleave.events import DocumentEvent
from server.interleave.interceptor import Interceptor
from server.interleave.journal.base import DocumentNotFoundError, Journal, Record, StoredDocument, StoreRequest
from server.interleave.journal.opening import open_journal
from server.interleave.making import DocumentMaker
from server.interleave.meter import DocumentMeter
from server.interleave.running import RunningDocument
from server.interleave.text_to_image import TextToImage, TextToImageRequest
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
        self._journal: Journal | None = None
        self._files: ImageStore | None = None
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

    @property
    def journal(self) -> Journal:
        """Keeps the stored documents. It is there while the service is running, also when it makes none.

        Raises:
            UnavailableError: the service is not running.
        """
        if self._journal is None:
            raise UnavailableError(self.state.value)
        return self._journal

    @property
    def files(self) -> ImageStore:
        """Keeps the pictures that answers link to. It is there while the service is running, also when it makes none.

        Raises:
            UnavailableError: the service is not running.
        """
        if self._files is None:
            raise UnavailableError(self.state.value)
        return self._files

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
            async with (
                open_image_store(self.settings) as self._files,
                open_journal(self.settings, self._end) as self._journal,
                self._open_backend(self.settings) as backend,
            ):
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
            self._backend = self._journal = self._files = None

    async def begin(
        self, request: DocumentRequest | TextToImageRequest, store: StoreRequest | None = None
    ) -> RunningDocument:
        """Start to make a document.

        Args:
            request: what to make.
            store: how to store it, so that it goes on when its reader leaves. Without it, it ends then.

        Raises:
            UnavailableError: the service takes no documents now, or none with pictures.
            PromptError: the request cannot become a context.
            SamplingError: the model cannot sample so.
        """
        backend = self.backend
        if request.images.max > 0:
            await require_workers(backend)
        maker = self._maker(request, backend)
        stored_request = await asyncio.to_thread(store.request_json) if store else b""
        meter = DocumentMeter()
        events = maker.events()
        try:
            started = await anext(events)
            if self.state is not State.READY:
                await events.aclose()
                raise UnavailableError(self.state.value)
        except BaseException:
            meter.close()
            raise
        outlet = None
        if store is not None:
            record = Record(request.id, store.surface, stored_request, store.background, int(time.time()))
            outlet = self.journal.open(record)
        document = RunningDocument(request.id, started, events, lambda: maker.usage, meter.observe, outlet)
        self.documents.add(document)
        document.task.add_done_callback(lambda _: self._ended(document, meter))
        return document

    def _maker(self, request: DocumentRequest | TextToImageRequest, backend: Backend) -> DocumentMaker:
        """What makes a document of this kind."""
        engine, pool, prompts = backend.engine, backend.pool, backend.prompts
        timeout_s = self.settings.limits.image_timeout_s
        match request:
            case DocumentRequest():
                return Interceptor(engine, pool, request, prompts, self.files, timeout_s)
            case TextToImageRequest():
                return TextToImage(engine, pool, request, prompts, self.files, timeout_s)

    def _ended(self, document: RunningDocument, meter: DocumentMeter) -> None:
        self.documents.discard(document)
        meter.close()
        logger.info("document %s: %s after %.2f s", document.id, meter.outcome, meter.seconds)

    def _end(self, document_id: str, code: str, message: str) -> None:
        """End a stored document that is being made here."""
        for document in self.documents:
            if document.id == document_id:
                document.fail(code, message)

    def follow(self, document_id: str, after: int | None = None) -> AsyncGenerator[DocumentEvent, None]:
        """The events of a stored document after a sequence number, or all; waits for those still to come.

        Whoever makes or made it may be another process. Ends with the document's last event.

        Raises:
            JournalError: when events are asked for. Ask :meth:`stored` before, and whether what is wanted is still
                kept; what can happen later is that the rest cannot be read now, or not at all.
            UnavailableError: the service is not running.
        """
        return self.journal.follow(document_id, after)

    async def events_so_far(self, document_id: str) -> list[DocumentEvent]:
        """All events that a stored document has up to now.

        Raises:
            JournalError: they cannot be read.
            UnavailableError: the service is not running.
        """
        return await self.journal.events_so_far(document_id)

    async def stored(self, document_id: str, surface: str | None = None) -> StoredDocument:
        """What is known of a stored document besides its events.

        Args:
            document_id: of the document.
            surface: that it must have been asked for on; None takes any.

        Raises:
            DocumentNotFoundError: there is none of this id.
            JournalError: it cannot be read.
            UnavailableError: the service is not running.
        """
        stored = await self.journal.stored(document_id)
        if surface not in (None, stored.surface):
            raise DocumentNotFoundError(document_id)
        return stored

    async def cancel(self, document_id: str) -> None:
        """End a stored document, wherever it is made, and return when its last event can be read.

        That is a ``DocumentFailed`` of code ``"cancelled"``, unless the document has ended before.

        Raises:
            DocumentNotFoundError: there is none of this id.
            JournalError: the process that makes it does not answer.
            UnavailableError: the service is not running.
        """
        await self.journal.cancel(document_id)

    async def delete(self, document_id: str) -> None:
        """Forget a stored document, wherever it is or was made. One that is being made is cancelled.

        Raises:
            DocumentNotFoundError: there is none of this id.
            JournalError: the process that made it does not answer.
            UnavailableError: the service is not running.
        """
        await self.journal.delete(document_id)

    async def drain(self, grace_s: float) -> None:
        """Take no more documents, let those at work go on for so many seconds, and end the rest with an error event."""
        if self.state is not State.FAILED:
            self.state = State.DRAINING
        metrics.READY.set(0)
        if self.documents:
            await self._end_documents(grace_s)
        if self._journal is not None:
            self._journal.release_readers()

    async def _end_documents(self, grace_s: float) -> None:
        tasks = {document.task for document in self.documents}
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
