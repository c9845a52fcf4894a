"""The interceptor: turns the token stream of one request into the events of a document.

It is a state machine. Each state is one method, which does the state's work and returns the next state::

    DECODING ─┬─ dream token ──> DREAMING ─┬─ feedback "image" ──> RENDERING ──> FEEDBACK ──> DECODING
              │                            ├─ feedback "none" ──> DECODING, while the picture is drawn
              │                            └─ no room for a picture ──> DRAINING
              └─ EOS, stop string, length limit ──> DRAINING ── all pictures have ended ──> DONE

What it promises of the events:

- the first is ``DocumentStarted``, the last and only the last ``DocumentCompleted`` or ``DocumentFailed``;
- parts begin in the order of their indices, and the indices have no gaps; later events of different parts may mix;
- an image part begins with ``ImageQueued`` and ends with one ``ImageCompleted`` or ``ImageFailed`` (it may lack its end
  in a document that failed);
- text deltas are never empty, and the text of all parts in order is what one decoding of all sampled text gives, up to
  the stop string.

A stop string may begin before a picture and end after it. What may be its beginning is held back while the picture is
drawn, and goes out as a delta of its own, earlier part if it turns out to be none. A picture inside such a stop string
stays in the document.

Log probabilities, if they were asked for, are those of the tokens of text: not of dream tokens nor of the end token.

A picture that failed, or is not fed back, is represented in the context by its dream queries alone. So is one that the
model asked for while the pool had fallen behind, where the request said ``on_overload: "skip"``: its part fails in
DREAMING, and nothing of it is queued. With ``"fail"`` the document ends there, with ``DocumentFailed``.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from enum import Enum, auto
from itertools import zip_longest

import numpy as np
from PIL import Image as PILImages

from server.files.base import ImageStore
from server.interleave.context import Context
from server.interleave.document import DocumentRequest
from server.interleave.drawing import Drawing
from server.interleave.events import DocumentEvent, FinishReason, LengthLimit, Usage
from server.interleave.limits import DEFAULT_LIMITS, MakingLimits
from server.interleave.making import Making
from server.interleave.outbox import Outbox, ignore
from server.interleave.pace import Pace, waiting_for_picture
from server.interleave.parts import Parts
from server.interleave.pending_logprobs import PendingLogprobs
from server.interleave.sampling import AnswerSampling
from server.interleave.seeds import derived_seed, random_seed
from server.llm.detokenizer import IncrementalDetokenizer
from server.llm.engine import EngineError, LLMEngine, Priority, Prompt, PromptImage, TokenChunk, TokenLogprobs
from server.llm.prompt import PromptBuilder
from server.llm.stop_strings import StopStrings
from server.observe.tracing import tracer
from server.pool.base import DiffusionPool, RenderedImage
from server.tasks import end

LETTERS_AT_ONCE = 2000
"""Text that is tokenized on the event loop: about half a millisecond of it."""


class State(Enum):
    """What the interceptor is doing."""

    DECODING = auto()
    """The model writes text."""
    DREAMING = auto()
    """It asked for a picture; its dream states are fetched."""
    RENDERING = auto()
    """The picture is drawn, and the text waits for it."""
    FEEDBACK = auto()
    """The picture is put before the model."""
    DRAINING = auto()
    """The text has ended; pictures may still be drawn."""
    DONE = auto()
    """All has ended."""


class Interceptor:
    """Makes one document. Used once.

    Args:
        engine: writes the text and dreams.
        pool: renders the pictures.
        request: what to make.
        prompts: builds the engine's prompts.
        files: keep the pictures that are delivered as links.
        limits: of the making.

    Attributes:
        state: what it is doing.
    """

    def __init__(
        self,
        engine: LLMEngine,
        pool: DiffusionPool,
        request: DocumentRequest,
        prompts: PromptBuilder,
        files: ImageStore,
        limits: MakingLimits = DEFAULT_LIMITS,
    ) -> None:
        self.state = State.DECODING
        self._engine = engine
        self._pool = pool
        self._request = request
        self._prompts = prompts
        self._files = files
        self._sampling = AnswerSampling(engine, request, prompts.control_token_ids)
        self._textless = frozenset({engine.eos_token_id, engine.config.dream_token_id})
        self._limits = limits
        seed = request.seed if request.images.seed is None else request.images.seed
        self._image_seed = random_seed() if seed is None else seed

        self._pace = Pace()
        self._context = Context(engine.config)
        self._negative: Prompt | None = None
        self._detokenizer = IncrementalDetokenizer(engine.tokenizer)
        self._stop_strings = StopStrings(request.stop)
        self._outbox = Outbox(limits.unread_bytes)
        self._logprobs = None if request.logprobs is None else PendingLogprobs(engine.tokenizer)
        self._parts = Parts(self._outbox.put, self._logprobs)

        self._drawings: list[Drawing] = []
        self._background: list[asyncio.Task[RenderedImage | None]] = []
        self._drawn: RenderedImage | None = None
        self._engine_requests = 0
        self._prompt_tokens = self._cached_tokens = 0
        self._sampled: list[int] = []
        self._image_tokens = 0
        self._finish_reason: FinishReason = "stop"
        self._length_limit: LengthLimit | None = None

    async def prepare(self) -> int:
        """See :class:`~server.interleave.making.DocumentMaker`."""
        # Tokenizing a long conversation takes longer than an event loop may stand still, a short one less than a thread
        # takes to get to it.
        if self._request.letters <= LETTERS_AT_ONCE and self._request.json_schema is None:
            self._prepare()
        else:
            await asyncio.to_thread(self._prepare)
        return self._prompt_tokens

    async def events(self, observe: Callable[[DocumentEvent], None] = ignore) -> AsyncGenerator[DocumentEvent, None]:
        """See :class:`~server.interleave.making.DocumentMaker`."""
        self._outbox.observe = observe
        if not self._prompt_tokens:
            await self.prepare()
        request = self._request
        making = Making(request.id, request.model, self._outbox, self._answer, lambda: self.usage)
        async with aclosing(making.events()) as events:
            async for event in events:
                yield event

    def _prepare(self) -> None:
        images = self._request.images
        self._sampling.check()
        self._context.begin(self._prompts.build(self._request.messages))
        self._prompt_tokens = self._context.length
        if images.negative_prompt is not None:
            negative = self._prompts.build_negative(images.negative_prompt)
            self._negative = negative if images.guidance_scale > 1 else None

    async def _answer(self) -> FinishReason:
        """Run the state machine."""
        # Not an attribute: that would be a cycle, and the request's pictures would stay until the garbage is collected.
        steps: dict[State, Callable[[], Awaitable[State]]] = {
            State.DECODING: self._decode,
            State.DREAMING: self._dream,
            State.RENDERING: self._render,
            State.FEEDBACK: self._feed_back,
            State.DRAINING: self._drain,
        }
        try:
            while self.state is not State.DONE:
                self.state = await steps[self.state]()
        finally:
            await end(self._background)
            self._parts.end_text()
        return self._finish_reason

    async def _decode(self) -> State:
        """DECODING: let the model write until it stops or asks for a picture."""
        limit, allowed = self._tokens_left()
        if allowed <= 0:
            return self._end_text("length", limit)
        with self._pace.segment(self._engine_requests, self._context.length):
            token_id, finish_reason = await self._sample(allowed)
        if self._stop_strings.matched:
            return self._end_text("stop")
        if finish_reason is None:
            raise EngineError("the engine ended a request without a reason")
        if finish_reason == "length":
            return self._end_text("length", limit)
        return State.DREAMING if token_id == self._engine.config.dream_token_id else self._end_text("stop")

    async def _sample(self, max_tokens: int) -> tuple[int | None, FinishReason | None]:
        """One engine request, to its end or a stop string: its last token, and why the engine ended it."""
        token_id, finish_reason = None, None
        async with aclosing(self._generate(max_tokens)) as chunks:
            async for chunk in chunks:
                self._pace.came(chunk)
                finish_reason = chunk.finish_reason
                if self._engine_requests == 1:
                    self._cached_tokens = chunk.cached_tokens
                for token_id, logprobs in zip_longest(chunk.token_ids, chunk.logprobs):
                    self._sampled.append(token_id)
                    if token_id not in self._textless:
                        self._add_text(token_id, logprobs)
                    if self._stop_strings.matched:
                        return token_id, finish_reason
        return token_id, finish_reason

    async def _dream(self) -> State:
        """DREAMING: begin an image part and fetch its dream states."""
        self._write(self._detokenizer.settle())
        if self._stop_strings.matched:
            return self._end_text("stop")
        if self._context.length + self._picture_length + 1 > self._engine.max_model_len:
            return self._end_text("length", "context")
        drawing = self._begin_drawing()
        await drawing.dream(self._context.prompt, self._negative)
        self._context.add_dream()
        self._pace.dreamt(self._context.length)
        self._image_tokens += self._context.dream_length - 1  # the dream token itself was sampled
        if self._request.images.feedback == "image":
            return State.RENDERING
        self._background.append(asyncio.create_task(drawing.render(), name=f"drawing for {self._request.id}"))
        return State.DECODING

    async def _render(self) -> State:
        """RENDERING: wait for the picture."""
        with waiting_for_picture(self._context.length):
            self._drawn = await self._drawings[-1].render()
        return State.FEEDBACK

    async def _feed_back(self) -> State:
        """FEEDBACK: show the model what was drawn, if the picture did not fail."""
        if self._drawn is not None:
            with tracer.start_as_current_span("feedback"):
                self._context.add_image(await asyncio.to_thread(prompt_image, self._drawn.pixels))
            self._image_tokens += self._context.image_length
        return State.DECODING

    async def _drain(self) -> State:
        """DRAINING: wait for the pictures that the text did not wait for."""
        await asyncio.gather(*self._background)
        return State.DONE

    def _generate(self, max_tokens: int) -> AsyncGenerator[TokenChunk, None]:
        """The next engine request of this answer."""
        may_dream = len(self._drawings) < self._request.images.max
        number = self._engine_requests
        self._engine_requests += 1
        sampling = self._sampling.of_request(number, max_tokens, may_dream, self._sampled)
        # What has begun holds pictures and a reader: it goes before what has not.
        priority: Priority = "normal" if number == 0 else "high"
        return self._engine.generate(f"{self._request.id}-text-{number}", self._context.prompt, sampling, priority)

    def _tokens_left(self) -> tuple[LengthLimit, int]:
        """How many tokens may still be sampled, and what sets that limit."""
        context = self._engine.max_model_len - self._context.length
        if self._request.max_tokens is None:
            return "context", context
        max_tokens = self._request.max_tokens - len(self._sampled)
        return ("max_tokens", max_tokens) if max_tokens <= context else ("context", context)

    @property
    def _picture_length(self) -> int:
        """Tokens that the next picture adds to the context."""
        shown = self._context.image_length if self._request.images.feedback == "image" else 0
        return self._context.dream_length + shown

    def _begin_drawing(self) -> Drawing:
        number = len(self._drawings)
        drawing = Drawing(
            id=f"{self._request.id}-image-{number}",
            engine=self._engine,
            pool=self._pool,
            params=self._request.images,
            seed=derived_seed(self._image_seed, number),
            first=number == 0,
            dream_priority="high",
            part=self._parts.open_image(self._stop_strings.held),
            parts=self._parts,
            files=self._files,
            limits=self._limits,
        )
        self._drawings.append(drawing)
        return drawing

    def _add_text(self, token_id: int, logprobs: TokenLogprobs | None) -> None:
        self._context.add_text(token_id)
        if self._logprobs is not None and logprobs is not None:
            self._logprobs.add(self._parts.written + self._stop_strings.held, token_id, logprobs)
        self._write(self._detokenizer.feed(token_id))

    def _write(self, text: str) -> None:
        self._parts.write(self._stop_strings.feed(text))

    def _end_text(self, reason: FinishReason, limit: LengthLimit | None = None) -> State:
        """The text ends: what was held back is decided now."""
        self._write(self._detokenizer.finish())
        if self._stop_strings.matched:
            reason, limit = "stop", None
        self._parts.write(self._stop_strings.finish())
        self._parts.end_text()
        self._finish_reason, self._length_limit = reason, limit
        return State.DRAINING

    @property
    def usage(self) -> Usage:
        """What the answer has cost so far."""
        images = sum(drawing.completed for drawing in self._drawings)
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._sampled),
            image_tokens=self._image_tokens,
            images=images,
            denoising_steps=images * self._request.images.steps,
            length_limit=self._length_limit,
            cached_tokens=self._cached_tokens,
        )


def prompt_image(pixels: np.ndarray) -> PromptImage:
    """A picture as drawn, uint8 ``[height, width, 3]``, for the context."""
    return PromptImage.of(PILImages.fromarray(pixels))
