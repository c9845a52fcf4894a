"""The begin of a document: what it has to pass before its first event, and what is settled after its last."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from server.availability import State, UnavailableError
from server.backend import Backend
from server.files.base import ImageStore
from server.guard.admission import Admission
from server.guard.caller import Caller
from server.guard.checked_pool import CheckedPool
from server.guard.checks import CheckedPrompt, Checks
from server.guard.demand import demand_of
from server.guard.rate_limits import RateLimits
from server.interleave.document import DocumentRequest
from server.interleave.events import DocumentEvent
from server.interleave.interceptor import Interceptor
from server.interleave.journal.base import Journal, Record, StoreRequest
from server.interleave.limits import MakingLimits
from server.interleave.making import DocumentMaker
from server.interleave.meter import DocumentMeter
from server.interleave.running import RunningDocument
from server.interleave.text_to_image import TextToImage, TextToImageRequest
from server.interleave.transcript import Transcript
from server.observe.tracing import tracer
from server.settings import Settings

logger = logging.getLogger(__name__)


class Dispatcher:
    """Begins documents when their turn has come. It is there while the backend is.

    Args:
        settings: of the server.
        backend: makes the documents.
        checks: judge prompts and pictures.
        files: keeps the pictures that documents link to.
        journal: keeps the stored ones.
        rate_limits: of those who ask.
        documents: that are being made; what begins is added, what ends is taken out.
        state: of the service, now.

    Attributes:
        admission: says which document may begin, and when.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        checks: Checks,
        files: ImageStore,
        journal: Journal,
        rate_limits: RateLimits,
        documents: set[RunningDocument],
        state: Callable[[], State],
    ) -> None:
        self.admission = Admission(settings.admission, backend.engine, backend.pool)
        self._settings = settings
        self._backend = backend
        self._checks = checks
        self._files = files
        self._journal = journal
        self._rate_limits = rate_limits
        self._documents = documents
        self._state = state

    async def begin(
        self, request: DocumentRequest | TextToImageRequest, caller: Caller, store: StoreRequest | None
    ) -> RunningDocument:
        """Start to make a document; see :meth:`Service.begin <server.service.Service.begin>`."""
        if request.images.max > 0:
            await self._rate_limits.require_images(caller)
        with ExitStack() as at_end:
            self._rate_limits.enter(caller)
            at_end.callback(self._rate_limits.leave, caller)
            await self._checks.require_allowed(CheckedPrompt.of(request))
            maker = self._maker(request)
            stored_request = await asyncio.to_thread(store.request_json) if store else b""
            meter = DocumentMeter()
            at_end.callback(meter.close)
            with tracer.start_as_current_span("admission"):
                demand = demand_of(request, await maker.prepare(), self._backend)
                place = await self.admission.admit(caller, demand)
            at_end.callback(lambda: place.close(maker.usage))
            events = maker.events(place.observe)
            started = await anext(events)
            if (state := self._state()) is not State.READY:
                await events.aclose()
                raise UnavailableError(state.value)
            outlet = None
            if store is not None:
                created = int(time.time())
                record = Record(request.id, caller.id, store.surface, stored_request, store.background, created)
                outlet = self._journal.open(record)

            transcript = Transcript(request) if self._settings.log.contents else None

            def observe(event: DocumentEvent) -> None:
                meter.observe(event)
                if transcript is not None:
                    transcript.observe(event)

            document = RunningDocument(request.id, started, events, lambda: maker.usage, observe, outlet)
            self._documents.add(document)
            ending = at_end.pop_all()
        document.task.add_done_callback(lambda _: self._ended(document, caller, meter, ending))
        return document

    def _maker(self, request: DocumentRequest | TextToImageRequest) -> DocumentMaker:
        """What makes a document of this kind."""
        engine, prompts = self._backend.engine, self._backend.prompts
        pool = CheckedPool(self._backend.pool, self._checks)
        settings = self._settings
        limits = MakingLimits(
            settings.limits.image_timeout_s,
            settings.admission.behind_s,
            settings.server.unread_bytes,
            settings.admission.wait_for_workers,
        )
        match request:
            case DocumentRequest():
                return Interceptor(engine, pool, request, prompts, self._files, limits)
            case TextToImageRequest():
                return TextToImage(engine, pool, request, prompts, self._files, limits)

    def _ended(self, document: RunningDocument, caller: Caller, meter: DocumentMeter, ending: ExitStack) -> None:
        self._documents.discard(document)
        ending.close()
        usage = document.usage()
        tokens = usage.prompt_tokens + usage.completion_tokens + usage.image_tokens
        self._rate_limits.charge(caller, tokens, usage.images)
        logger.info("document %s of %s: %s after %.2f s", document.id, caller.id, meter.outcome, meter.seconds)
