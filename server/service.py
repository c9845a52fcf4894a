"""The service: a model from its start to its end, the documents that it is making, and those that it stores."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from enum import Enum
from typing import TypeVar

from server.backend import Backend, OpenBackend, warm_up
from server.files.base import ImageStore
from server.files.opening import open_image_store
from server.guard.admission import Admission
from server.guard.caller import Caller
from server.guard.checked_pool import CheckedPool
from server.guard.checks import CheckedPrompt, Checks, open_checks
from server.guard.demand import demand_of
from server.guard.image_loading import ImageLoader, open_image_loader
from server.guard.rate_limits import open_rate_limits
from server.interleave.document import Document, DocumentRequest
from server.interleave.events import DocumentEvent
from server.interleave.interceptor import Interceptor
from server.interleave.journal.base import (
    DocumentNotFoundError,
    Journal,
    JournalTruncatedError,
    Record,
    StoredDocument,
    StoreRequest,
)
from server.interleave.journal.opening import open_journal
from server.interleave.limits import MakingLimits
from server.interleave.making import DocumentMaker
from server.interleave.meter import DocumentMeter
from server.interleave.running import RunningDocument
from server.interleave.text_to_image import TextToImage, TextToImageRequest
from server.interleave.transcript import Transcript
from server.llm.engine import EngineDeadError
from server.observe import metrics
from server.observe.tracing import tracer
from server.pool.base import PoolDeadError
from server.settings import Settings

WARM_UP_LIMIT_S = 600  # a server that takes longer for its first answer is of no use
LAST_EVENT_LIMIT_S = 10  # for what documents have started to end, once they have been told to

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


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
        rate_limits: of those who ask for them.

    Raises:
        ValueError: the URL of the Redis is wrong.
    """

    def __init__(self, settings: Settings, open_backend: OpenBackend) -> None:
        self.settings = settings
        self.created = int(time.time())
        self.state = State.LOADING
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self._admission: Admission | None = None
        self._journal: Journal | None = None
        self._files: ImageStore | None = None
        self._image_loader: ImageLoader | None = None
        self._checks: Checks | None = None
        self._closing = asyncio.Event()
        self._draining = asyncio.Event()
        self._retiring = False
        self.documents: set[RunningDocument] = set()
        self.rate_limits = open_rate_limits(settings.redis)

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
    def admission(self) -> Admission:
        """Says which document may begin, and when. It is there while the backend is.

        Raises:
            UnavailableError: the backend is not there.
        """
        return self._opened(self._admission)

    @property
    def journal(self) -> Journal:
        """Keeps the stored documents. It is there while the service is running, also when it makes none.

        Raises:
            UnavailableError: the service is not running.
        """
        return self._opened(self._journal)

    @property
    def files(self) -> ImageStore:
        """Keeps the pictures that answers link to. It is there while the service is running, also when it makes none.

        Raises:
            UnavailableError: the service is not running.
        """
        return self._opened(self._files)

    @property
    def image_loader(self) -> ImageLoader:
        """Reads the pictures of requests. It is there while the service is running.

        Raises:
            UnavailableError: the service is not running.
        """
        return self._opened(self._image_loader)

    @property
    def checks(self) -> Checks:
        """Judge prompts and pictures. They are there while the service is running.

        Raises:
            UnavailableError: the service is not running.
        """
        return self._opened(self._checks)

    def _opened(self, part: Part | None) -> Part:
        """A part of the service, if it is there now.

        Raises:
            UnavailableError: it is not.
        """
        if part is None:
            raise UnavailableError(self.state.value)
        return part

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
            await self.rate_limits.close()

    async def _live(self) -> None:
        begin = time.perf_counter()
        try:
            async with (
                open_checks(self.settings.checks) as self._checks,
                open_image_loader(self.settings) as self._image_loader,
                open_image_store(self.settings) as self._files,
                open_journal(self.settings, self._end) as self._journal,
                self._open_backend(self.settings) as backend,
            ):
                if self.state is State.LOADING:
                    async with asyncio.timeout(WARM_UP_LIMIT_S):
                        await warm_up(backend)
                self._backend = backend
                self._admission = Admission(self.settings.admission, backend.engine, backend.pool)
                if self.state is State.LOADING:
                    self.state = State.READY
                    metrics.READY.set(1)
                    logger.info("ready after %.1f s", time.perf_counter() - begin)
                async with self._admission.serving():
                    await self._closing.wait()
                    await self.drain(grace_s=0)
        except Exception:
            self.state = State.FAILED
            logger.exception("the model cannot be served")
        finally:
            metrics.READY.set(0)
            self._backend = self._admission = None
            self._journal = self._files = self._image_loader = self._checks = None

    async def begin(
        self, request: DocumentRequest | TextToImageRequest, caller: Caller, store: StoreRequest | None = None
    ) -> RunningDocument:
        """Start to make a document, when its turn has come.

        Args:
            request: what to make.
            caller: who asks for it.
            store: how to store it, so that it goes on when its reader leaves. Without it, it ends then.

        Raises:
            UnavailableError: the service takes no documents now, or none with pictures.
            EngineDeadError: the language model is gone.
            OverloadedError: there is no room for the document, and will not be soon.
            RateLimitError: the caller has no pictures left, or too many documents.
            PromptRefusedError: a check refused the prompt.
            CheckFailedError: it could not judge the prompt.
            PromptError: the request cannot become a context.
            SamplingError: the model cannot sample so.
        """
        backend, admission = self.backend, self.admission
        await backend.engine.health()
        if request.images.max > 0:
            await self._require_workers(backend)
            await self.rate_limits.require_images(caller)
        with ExitStack() as at_end:
            self.rate_limits.enter(caller)
            at_end.callback(self.rate_limits.leave, caller)
            await self.checks.require_allowed(CheckedPrompt.of(request))
            maker = self._maker(request, backend)
            stored_request = await asyncio.to_thread(store.request_json) if store else b""
            meter = DocumentMeter()
            at_end.callback(meter.close)
            with tracer.start_as_current_span("admission"):
                place = await admission.admit(caller, demand_of(request, await maker.prepare(), backend))
            at_end.callback(lambda: place.close(maker.usage))
            events = maker.events()
            started = await anext(events)
            if self.state is not State.READY:
                await events.aclose()
                raise UnavailableError(self.state.value)
            outlet = None
            if store is not None:
                created = int(time.time())
                record = Record(request.id, caller.id, store.surface, stored_request, store.background, created)
                outlet = self.journal.open(record)

            transcript = Transcript(request) if self.settings.log.contents else None

            def observe(event: DocumentEvent) -> None:
                meter.observe(event)
                place.observe(event)
                if transcript is not None:
                    transcript.observe(event)

            document = RunningDocument(request.id, started, events, lambda: maker.usage, observe, outlet)
            self.documents.add(document)
            ending = at_end.pop_all()
        document.task.add_done_callback(lambda _: self._ended(document, caller, meter, ending))
        return document

    def _maker(self, request: DocumentRequest | TextToImageRequest, backend: Backend) -> DocumentMaker:
        """What makes a document of this kind."""
        engine, prompts = backend.engine, backend.prompts
        pool = CheckedPool(backend.pool, self.checks)
        settings = self.settings
        limits = MakingLimits(
            settings.limits.image_timeout_s, settings.admission.behind_s, settings.server.unread_bytes
        )
        match request:
            case DocumentRequest():
                return Interceptor(engine, pool, request, prompts, self.files, limits)
            case TextToImageRequest():
                return TextToImage(engine, pool, request, prompts, self.files, limits)

    def _ended(self, document: RunningDocument, caller: Caller, meter: DocumentMeter, ending: ExitStack) -> None:
        self.documents.discard(document)
        ending.close()
        usage = document.usage()
        tokens = usage.prompt_tokens + usage.completion_tokens + usage.image_tokens
        self.rate_limits.charge(caller, tokens, usage.images)
        logger.info("document %s of %s: %s after %.2f s", document.id, caller.id, meter.outcome, meter.seconds)

    def _end(self, document_id: str, code: str, message: str) -> None:
        """End a stored document that is being made here."""
        for document in self.documents:
            if document.id == document_id:
                document.fail(code, message)

    async def stored(self, document_id: str, caller: Caller, surface: str) -> StoredDocument:
        """What is known of a stored document besides its events. Whoever is to see or to end it asks this first.

        Args:
            document_id: of the document.
            caller: whose it must be.
            surface: that it must have been asked for on.

        Raises:
            DocumentNotFoundError: there is none of this id, or it is none of his.
            JournalError: it cannot be read.
            UnavailableError: the service is not running.
        """
        stored = await self.journal.stored(document_id)
        if (stored.caller, stored.surface) != (caller.id, surface):
            raise DocumentNotFoundError(document_id)
        return stored

    async def delete(self, document_id: str) -> None:
        """Forget a stored document and the pictures that it links to. One that is being made is cancelled.

        Raises:
            DocumentNotFoundError: there is none of this id.
            JournalError: the process that makes or made it does not answer.
            StorageError: the pictures cannot be deleted now; then the document is still there.
            UnavailableError: the service is not running.
        """
        journal = self.journal
        await journal.cancel(document_id)
        # A document that outgrew its bound has lost its first pictures' names: these stay until they expire.
        with suppress(JournalTruncatedError):
            document = Document.of(await journal.events_so_far(document_id))
            await self.files.delete(document.linked_images)
        await journal.delete(document_id)

    async def retire(self, delay_s: float) -> None:
        """Fail :meth:`check`, but take documents for so many seconds more: those who send them may not know yet."""
        if self.state is not State.READY:
            return
        self._retiring = True
        metrics.READY.set(0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), delay_s)

    async def drain(self, grace_s: float) -> None:
        """Take no more documents, let those at work go on for so many seconds, and end the rest with an error event."""
        self._draining.set()
        if self.state is not State.FAILED:
            self.state = State.DRAINING
        metrics.READY.set(0)
        if self._admission is not None:
            self._admission.close(UnavailableError(self.state.value))
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

    async def watch(self) -> None:
        """See whether the backend has died. From then on the service has failed, as only another process can go on."""
        if self.state is not State.READY or self._backend is None:
            return
        try:
            await self._backend.engine.health()
            await self._backend.pool.health()
        except (EngineDeadError, PoolDeadError) as error:
            self.state = State.FAILED
            metrics.READY.set(0)
            logger.critical("the model has died: %s", error)

    async def check(self) -> None:
        """Return if documents can be made now and for some time.

        Raises:
            UnavailableError: not so.
            EngineDeadError: never again in this process.
        """
        if self._retiring:
            raise UnavailableError(State.DRAINING.value)
        backend = self.backend
        await backend.engine.health()
        await self._require_workers(backend)

    async def _require_workers(self, backend: Backend) -> None:
        """Return if pictures can be drawn now, or can wait for who draws them where that is the setting.

        Raises:
            UnavailableError: not now.
        """
        load = await backend.pool.load()
        may_wait = self.settings.admission.wait_for_workers and load.takes_jobs
        if load.workers_alive == 0 and not may_wait:
            raise UnavailableError("no_workers")
