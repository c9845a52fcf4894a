"""Admission: which document begins next, and when, so that what has begun gets what it needs.

A document takes of two resources. Its context takes **tokens** of the language model's KV cache, from its admission to
its end. Its pictures take **picture seconds** of the pool, each for a moment. Both are promised here before any text
is sent. What a document will take is not known, for the model chooses; what is promised is what documents like it have
taken, and never more than it asks for. What vLLM and the pool measure stands beside the promises and catches what
those get wrong.

Those for whom there is no room wait, in a line of bounded length and for a bounded time, and are served by weighted
fair queueing: not who sends most, but whose turn it is. When the line is full, the caller who has most of it loses his
latest place. Whoever is sent away hears after how many seconds there should be room.

A document that may draw waits for both resources. While it waits for the pool alone, those pass it that draw nothing;
in all else nobody passes, or a large request would wait for ever. vLLM's own line is kept short, as it is not fair.

A picture's share is given back when it is queued: from then on the pool counts it, and with it the pictures of all
other servers. Promises of other servers are not known here, so several servers over one pool together promise more.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from server.guard.caller import Caller
from server.guard.demand import Demand, Expectations, Share
from server.guard.fair_queue import FairQueue
from server.guard.place import Place
from server.interleave.events import Usage
from server.llm.engine import LLMEngine
from server.observe import metrics
from server.pool.base import DiffusionPool, PoolLoad
from server.settings import AdmissionSettings
from server.tasks import end

LOOK_AGAIN_S = 0.02
"""While somebody waits: what vLLM measures changes without a word, a few times in so long."""
LOOK_AT_POOL_S = 0.2
"""Likewise: what the pool measures costs a message, and changes more slowly."""
LONGEST_RETRY_S = 300

Refusal = Literal["line_full", "waited_too_long", "pool_full"]
MESSAGES: dict[Refusal, str] = {
    "line_full": "the server is busy, and too many requests wait already",
    "waited_too_long": "the server is busy, and the request has waited too long",
    "pool_full": "the server is busy, and too many pictures wait to be drawn",
}

logger = logging.getLogger(__name__)


class OverloadedError(Exception):
    """There is no room for a document, and will not be soon.

    Attributes:
        reason: what there is too much of.
        retry_after_s: whole seconds after which there should be room.
    """

    def __init__(self, reason: Refusal, seconds: float) -> None:
        super().__init__(MESSAGES[reason])
        self.reason = reason
        self.retry_after_s = math.ceil(min(max(seconds, 1), LONGEST_RETRY_S))


@dataclass(eq=False, slots=True)
class _Applicant:
    """A document that waits for its turn."""

    caller: Caller
    demand: Demand
    share: Share
    place: asyncio.Future[Place] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def draws(self) -> bool:
        return self.share.image_steps > 0


class Admission:
    """Promises documents their shares of the language model and the pool. Everything is called on one event loop.

    Args:
        settings: the bounds.
        engine: the language model.
        pool: draws the pictures.
    """

    def __init__(self, settings: AdmissionSettings, engine: LLMEngine, pool: DiffusionPool) -> None:
        self._settings = settings
        self._engine = engine
        self._pool = pool
        self._pool_load = PoolLoad(queue_depth=0, running=0, seconds_ahead=0.0, workers_alive=0)
        self._line: FairQueue[_Applicant] = FairQueue()
        self._places: set[Place] = set()
        self._expectations = Expectations(settings.expected_images)
        self._changed = asyncio.Event()
        self._closed: Exception | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve the line meanwhile."""
        serving = asyncio.create_task(self._serve(), name="admission")
        try:
            yield
        finally:
            await end([serving])

    async def admit(self, caller: Caller, demand: Demand) -> Place:
        """Return when a document may begin. Cancelling the call leaves the line.

        Args:
            caller: who wants it.
            demand: what it asks for.

        Raises:
            OverloadedError: there is no room, and will not be soon.
        """
        applicant = _Applicant(caller, demand, self._expectations.of(demand))
        if applicant.draws:  # text does not wait for a pool that does not answer
            self._pool_load = await self._pool.load()
        if self._closed is not None:
            raise self._closed
        if applicant.draws and self._seconds_until_pool_has_room > self._settings.max_wait_s:
            raise self._refusal("pool_full", applicant)
        self._line.push(applicant, caller.id, caller.weight, self._cost(applicant.share))
        self._admit_who_fits()
        self._shorten_line()
        self._changed.set()
        begin = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._settings.max_wait_s):
                place = await asyncio.shield(applicant.place)  # only who serves the line decides about it
        except TimeoutError:
            self._leave(applicant)
            raise self._refusal("waited_too_long", applicant) from None
        except BaseException:
            self._leave(applicant)
            raise
        metrics.ADMISSION_WAIT.observe(asyncio.get_running_loop().time() - begin)
        return place

    async def pool_load(self) -> PoolLoad:
        """How busy the pool is now, for as long as it is there: also when nobody is let in any more."""
        return await self._pool.load()

    def close(self, reason: Exception) -> None:
        """Everybody in line hears this, and everybody who still comes."""
        self._closed = reason
        for applicant in tuple(self._line):
            self._send_away(applicant, reason)

    async def _serve(self) -> None:
        """Let in who fits, whenever that may have changed."""
        loop = asyncio.get_running_loop()
        looked_at_pool = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S if self._line else None):
                    await self._changed.wait()
            due = self._changed.is_set() or loop.time() - looked_at_pool >= LOOK_AT_POOL_S
            self._changed.clear()
            try:
                if due and any(applicant.draws for applicant in self._line):
                    self._pool_load = await self._pool.load()
                    looked_at_pool = loop.time()
                self._admit_who_fits()
            except Exception as error:
                logger.exception("the line could not be served")
                for applicant in tuple(self._line):
                    self._send_away(applicant, error)

    def _admit_who_fits(self) -> None:
        """Let in as many as there is room for, in fair order."""
        while True:
            applicant = self._line.next(self._pool_has_room)
            if applicant is None or not self._engine_has_room(applicant.share):
                break
            self._line.serve(applicant)
            place = Place(applicant.caller, applicant.demand, applicant.share, self._close_place)
            self._places.add(place)
            applicant.place.set_result(place)
        self._count()

    def _pool_has_room(self, applicant: _Applicant) -> bool:
        """Whether the pool could begin somebody's pictures soon, if he wants any."""
        return not applicant.draws or self._seconds_until_pool_has_room < 0

    def _engine_has_room(self, share: Share) -> bool:
        """Whether a context fits beside those of the documents at work. One alone always does."""
        if not self._places:
            return True
        load, settings = self._engine.load(), self._settings
        return (
            len(self._places) < settings.max_running
            and self._tokens + share.tokens <= self._engine.kv_tokens
            and load.kv_usage < settings.max_kv_usage
            and load.waiting < settings.max_engine_waiting
        )

    @property
    def _tokens(self) -> float:
        """Promised to the documents at work."""
        return sum(place.share.tokens for place in self._places)

    @property
    def _promised_seconds(self) -> float:
        """Of the pool, promised to the documents at work."""
        return self._seconds(sum(place.image_steps for place in self._places))

    @property
    def _seconds_ahead(self) -> float:
        """Of the pool: the pictures that it has, and those that are promised."""
        return self._pool_load.seconds_ahead + self._promised_seconds

    @property
    def _seconds_until_pool_has_room(self) -> float:
        return self._seconds_ahead - self._settings.max_picture_wait_s

    @property
    def _seconds_until_turn(self) -> float:
        """Until somebody who joined the line now would be admitted, if documents go on to end as they have."""
        return (len(self._line) + 1) * self._expectations.document_s / max(1, len(self._places))

    def _seconds(self, image_steps: float) -> float:
        """How long the whole pool takes for so many steps; nothing while its speed is not known."""
        return image_steps / self._pool_load.steps_per_s if self._pool_load.steps_per_s else 0.0

    def _cost(self, share: Share) -> float:
        """What a share counts in the fair order: the part that it takes of the resource of which it takes most.

        That is the dominant share (Ghodsi et al., 2011); a place among the documents at work is a resource too.
        """
        return max(
            1 / self._settings.max_running,
            share.tokens / self._engine.kv_tokens,
            self._seconds(share.image_steps) / self._settings.max_picture_wait_s,
        )

    def _close_place(self, place: Place, usage: Usage) -> None:
        self._places.remove(place)
        demand, caller = place.demand, place.caller
        tokens = usage.completion_tokens + usage.image_tokens
        if place.completed:
            seconds = asyncio.get_running_loop().time() - place.admitted
            self._expectations.learn(demand, tokens, place.images, seconds)
        taken = Share(demand.prompt_tokens + tokens, place.images * demand.image_steps)
        self._line.charge(caller.id, caller.weight, self._cost(taken) - self._cost(place.share))
        self._changed.set()
        self._count()

    def _shorten_line(self) -> None:
        """While too many wait, send the latest of the caller away who has most waiting."""
        while len(self._line) > self._settings.max_waiting and (last := self._line.last_of_longest()) is not None:
            self._send_away(last, self._refusal("line_full", last))

    def _send_away(self, applicant: _Applicant, error: Exception) -> None:
        self._line.remove(applicant)
        applicant.place.set_exception(error)
        self._count()

    def _leave(self, applicant: _Applicant) -> None:
        """Somebody waits no longer. He may have been admitted in the same instant."""
        if not applicant.place.done():
            self._line.remove(applicant)
        elif applicant.place.exception() is None:
            applicant.place.result().close(Usage())
        self._count()

    def _refusal(self, reason: Refusal, applicant: _Applicant) -> OverloadedError:
        metrics.ADMISSION_REFUSED.labels(reason).inc()
        pool_s = self._seconds_until_pool_has_room if applicant.draws else 0.0
        return OverloadedError(reason, max(self._seconds_until_turn, pool_s))

    def _count(self) -> None:
        metrics.ADMISSION_WAITING.set(len(self._line))
        metrics.ADMISSION_TOKENS.set(self._tokens)
        metrics.ADMISSION_PICTURE_SECONDS.set(self._promised_seconds)
