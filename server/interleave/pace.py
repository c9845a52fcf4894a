"""The pace of one answer's text: how fast its tokens come, and how long its pictures keep it waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from opentelemetry.trace import Span

from server.llm.engine import TokenChunk
from server.observe import metrics
from server.observe.tracing import tracer


class Pace:
    """Measures the text of one answer, as it comes from the engine.

    A text with pictures takes several engine requests. Each is a segment: a prefill until its first token, which after
    a picture should find all but the picture in the prefix cache, then decoding. What happens for each token is one
    look at the clock and one count.
    """

    def __init__(self) -> None:
        self._latest: float | None = None
        self._stalled = False
        self._computed = 0
        self._prefill: Span | None = None

    @contextmanager
    def segment(self, number: int, context_tokens: int) -> Iterator[None]:
        """One engine request, to its end.

        Args:
            number: of requests before it.
            context_tokens: of its prompt, pictures expanded.
        """
        attributes = {"dreamserve.segment": number, "gen_ai.usage.input_tokens": context_tokens}
        with tracer.start_as_current_span("text", attributes=attributes):
            self._prefill = tracer.start_span("prefill")
            try:
                yield
            finally:
                self._end_prefill()

    def came(self, chunk: TokenChunk) -> None:
        """Tokens came. The first ones of a segment say how much of its prompt was in the prefix cache."""
        now = perf_counter()
        if self._prefill is not None:
            self._prefill.set_attribute("gen_ai.usage.cache_read.input_tokens", chunk.cached_tokens)
            self._end_prefill()
            self._count_prefix(chunk.cached_tokens)
        if self._latest is not None and self._stalled:
            metrics.TEXT_STALL.observe(now - self._latest)
        elif self._latest is not None and chunk.token_ids:
            metrics.INTER_TOKEN_LATENCY.observe((now - self._latest) / len(chunk.token_ids))
        self._latest, self._stalled = now, False

    def dreamt(self, context_tokens: int) -> None:
        """The text stopped for a picture, whose dream states were computed; the context is so long by now."""
        self._stalled = True
        self._computed = context_tokens

    def _count_prefix(self, cached_tokens: int) -> None:
        """Count what of this segment's prompt was computed before its picture, if there was one."""
        cached = min(cached_tokens, self._computed)
        metrics.FEEDBACK_PREFIX_TOKENS.labels("cached").inc(cached)
        metrics.FEEDBACK_PREFIX_TOKENS.labels("recomputed").inc(self._computed - cached)
        self._computed = 0

    def _end_prefill(self) -> None:
        if self._prefill is not None:
            self._prefill.end()
            self._prefill = None


@contextmanager
def waiting_for_picture(context_tokens: int) -> Iterator[None]:
    """The text of a document waits for a picture meanwhile.

    Args:
        context_tokens: of its context, which the prefix cache should hold until then.
    """
    metrics.STALLED_DOCUMENTS.inc()
    metrics.STALLED_TOKENS.inc(context_tokens)
    try:
        yield
    finally:
        metrics.STALLED_DOCUMENTS.dec()
        metrics.STALLED_TOKENS.dec(context_tokens)
