"""What the makers of documents have in common: work in a task of its own, between a first and a last event."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from opentelemetry.trace import Span

from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    FinishReason,
    Usage,
    is_last,
)
from server.interleave.limits import DocumentError
from server.interleave.outbox import UNNUMBERED, Outbox, ignore
from server.llm.engine import EngineDeadError, EngineError
from server.observe.tracing import fail, tracer
from server.tasks import end

logger = logging.getLogger(__name__)


class DocumentMaker(Protocol):
    """Makes one document. Used once."""

    @property
    def usage(self) -> Usage:
        """What the document has cost so far."""

    async def prepare(self) -> int:
        """Check the request and build its context, whose length in tokens is returned, pictures expanded.

        Raises:
            PromptError: the request does not fit the model.
            SamplingError: the model cannot sample so.
        """

    def events(self, observe: Callable[[DocumentEvent], None] = ignore) -> AsyncGenerator[DocumentEvent, None]:
        """The events of the document, to be read once. Begins with :meth:`prepare`, unless that has been done.

        Args:
            observe: sees each event as it is made, without its number. The last one says that nothing is being made any
                more, which a slow reader hears late.

        Closing it, or cancelling the task that reads it, aborts the engine's requests, cancels all image jobs within a
        step and returns when nothing of them is left. Failures after the first event are events.

        Raises:
            PromptError: before the first event, see :meth:`prepare`; nothing was started.
            SamplingError: likewise.
        """


class Making:
    """Runs what makes a document, and turns its end into the last event.

    Args:
        id: of the document.
        model: the name by which the caller asked for the model.
        outbox: takes the events that ``make`` puts there.
        make: makes the document, and returns why it ended.
        usage: what it has cost so far.
    """

    def __init__(
        self,
        id: str,
        model: str,
        outbox: Outbox,
        make: Callable[[], Awaitable[FinishReason]],
        usage: Callable[[], Usage],
    ) -> None:
        self._id = id
        self._model = model
        self._outbox = outbox
        self._make = make
        self._usage = usage

    async def events(self) -> AsyncGenerator[DocumentEvent, None]:
        """The events, from the first to the last. Closing it returns when nothing that was started is left."""
        making = asyncio.create_task(self._run(), name=f"making of {self._id}")
        try:
            while True:
                event = await self._outbox.take()
                yield event
                if is_last(event):
                    return
        finally:
            await end([making])

    async def _run(self) -> None:
        self._outbox.put(DocumentStarted(UNNUMBERED, self._id, self._model, int(time.time())))
        with tracer.start_as_current_span("document", attributes={"dreamserve.document.id": self._id}) as span:
            last = await self._last_event()
            describe(span, last)
        self._outbox.put(last)

    async def _last_event(self) -> DocumentCompleted | DocumentFailed:
        try:
            reason = await self._make()
        except DocumentError as error:
            logger.warning("document %s cannot go on: %s", self._id, error)
            return self._failed(error.code, str(error))
        except EngineDeadError:
            logger.exception("the engine died under document %s", self._id)
            return self._failed("engine_unavailable", "the language model is not available")
        except EngineError:
            logger.exception("an engine request of document %s failed", self._id)
            return self._failed("engine_error", "the language model failed on this document")
        except Exception:
            logger.exception("document %s failed", self._id)
            return self._failed("internal_error", "the server failed on this document")
        return DocumentCompleted(UNNUMBERED, reason, self._usage())

    def _failed(self, code: str, message: str) -> DocumentFailed:
        return DocumentFailed(UNNUMBERED, code, message, self._usage())


def describe(span: Span, last: DocumentCompleted | DocumentFailed) -> None:
    """Say of the span of a document how it ended, with what it cost."""
    span.set_attributes(
        {
            "gen_ai.usage.input_tokens": last.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": last.usage.completion_tokens,
            "dreamserve.usage.images": last.usage.images,
        }
    )
    match last:
        case DocumentCompleted(finish_reason=reason):
            span.set_attribute("gen_ai.response.finish_reasons", [reason])
        case DocumentFailed(code=code):
            fail(span, code)
