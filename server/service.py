"""The service: a model from its start to its end, and the documents that it is making."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from server.availability import State, UnavailableError
from server.backend import Backend, OpenBackend, warm_up
from server.dispatch import Dispatcher
from server.files.base import ImageStore
from server.files.opening import open_image_store
from server.guard.admission import Admission
from server.guard.caller import Caller
from server.guard.checks import Checks, open_checks
from server.guard.image_loading import ImageLoader, open_image_loader
from server.guard.rate_limits import open_rate_limits
from server.interleave.document import DocumentRequest
from server.interleave.journal.base import Journal, StoreRequest
from server.interleave.journal.opening import open_journal
from server.interleave.running import RunningDocument
from server.interleave.text_to_image import TextToImageRequest
from server.llm.engine import EngineDeadError
from server.pool.base import PoolDeadError
from server.settings import Settings

WARM_UP_LIMIT_S = 600  # a server that takes longer for its first answer is of no use
LAST_EVENT_LIMIT_S = 10  # for what documents have started to end, once they have been told to

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


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
        self._dispatcher: Dispatcher | None = None
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
        return self._opened(self._dispatcher).admission

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
                self._dispatcher = Dispatcher(
                    self.settings,
                    backend,
                    self.checks,
                    self.files,
                    self.journal,
                    self.rate_limits,
                    self.documents,
                    state=lambda: self.state,
                )
                if self.state is State.LOADING:
                    self.state = State.READY
                    logger.info("ready after %.1f s", time.perf_counter() - begin)
                async with self._dispatcher.admission.serving():
                    await self._closing.wait()
                    await self.drain(grace_s=0)
        except Exception:
            self.state = State.FAILED
            logger.exception("the model cannot be served")
        finally:
            self._backend = self._dispatcher = None
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
        backend, dispatcher = self.backend, self._opened(self._dispatcher)
        await backend.engine.health()
        if request.images.max > 0:
            await self._require_workers(backend)
        return await dispatcher.begin(request, caller, store)

    def _end(self, document_id: str, code: str, message: str) -> None:
        """End a stored document that is being made here."""
        for document in self.documents:
            if document.id == document_id:
                document.fail(code, message)

    async def retire(self, delay_s: float) -> None:
        """Fail :meth:`check`, but take documents for so many seconds more: those who send them may not know yet."""
        if self.state is not State.READY:
            return
        self._retiring = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), delay_s)

    async def drain(self, grace_s: float) -> None:
        """Take no more documents, let those at work go on for so many seconds, and end the rest with an error event."""
        self._draining.set()
        if self.state is not State.FAILED:
            self.state = State.DRAINING
        if self._dispatcher is not None:
            self._dispatcher.admission.close(UnavailableError(self.state.value))
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
