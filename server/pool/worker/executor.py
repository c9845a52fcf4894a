"""One job in its worker, from the queue to its end."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from redis.exceptions import RedisError

from models.diffusion.description import DecoderDescription
from models.diffusion.job import Completed, Failed, Outcome, Preview, Progress, RenderJob
from models.diffusion.open_jobs import EngineUnavailableError
from models.diffusion.pipeline import RenderPipeline
from server.observe import worker as metrics
from server.observe.diffusion import HANDOFF
from server.pool.queue.consumer import Consumer, TakenJob
from server.pool.spans import RenderSpans
from server.pool.wire import JobLimits, Message, WireError, decode_job, encode_message
from server.pool.worker.held_jobs import HeldJob, HeldJobs
from server.pool.worker.settlement import Settlement
from server.pool.worker.states import SharedStates, StatesUnavailableError

logger = logging.getLogger(__name__)

PROGRESS_MESSAGES = 8  # of one picture at most, so that its number of Redis commands does not grow with its steps


class JobExecutor:
    """Has jobs drawn, and tells of them.

    A job on its last try is drawn alone: if it kills its worker again, it takes no other job with it. The try counts
    only once that has begun, so that the job is not given up because of another one.

    Args:
        pipeline: draws.
        description: of what it draws with.
        consumer: of the queue.
        held_jobs: of the worker.
        settlement: ends the jobs.
        limits: what jobs may ask for.
        max_tries: workers that may die with a job.
        engine_died: called when the engine could not go on.
    """

    def __init__(
        self,
        pipeline: RenderPipeline,
        description: DecoderDescription,
        consumer: Consumer,
        held_jobs: HeldJobs,
        settlement: Settlement,
        limits: JobLimits,
        *,
        max_tries: int,
        engine_died: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._description = description
        self._consumer = consumer
        self._held_jobs = held_jobs
        self._settlement = settlement
        self._limits = limits
        self._max_tries = max_tries
        self._engine_died = engine_died
        self._states = SharedStates(consumer, limits.states_shape)
        self._loop = asyncio.get_running_loop()

    async def execute(self, held: HeldJob) -> None:
        """Take a job to its end; afterwards it is not held any more."""
        taken = held.taken
        if taken.tries > 1:
            metrics.TAKEN_OVER.inc()
            logger.warning("image job %s is tried for the %d. time", taken.id, taken.tries)
        try:
            if taken.tries > self._max_tries:
                lost = taken.tries - 1
                reason = f"{lost} workers were lost while they drew it"
                failure = Failed("worker_lost", f"The picture was given up: {reason}.")
                await self._settlement.conclude(held, failure, reason)
            elif self._held_jobs.alone.locked():
                # Another worker may have time for it before this one has.
                await self._settlement.hand_back(held, counts=False)
            elif held.counted:
                await self._try(held)
            else:
                await self._try_alone(held)
        finally:
            self._held_jobs.remove(held)

    async def _try_alone(self, held: HeldJob) -> None:
        """Draw a job beside which nothing else is drawn: what arrives meanwhile is handed back."""
        async with self._held_jobs.alone:
            while not self._held_jobs.is_alone(held):
                await self._held_jobs.change()
            try:
                held.counted = await self._consumer.begin(held.taken.id)
            except RedisError as error:
                logger.warning("the last try of image job %s cannot be begun: %r", held.taken.id, error)
            if held.counted:
                await self._try(held)
            else:
                await self._settlement.hand_back(held, counts=False)

    async def _try(self, held: HeldJob) -> None:
        """Read a job and draw it."""
        taken = held.taken
        try:
            job = await self._read(taken)
        except WireError as error:
            await self._settlement.conclude(held, Failed("invalid_job", str(error)), f"refused: {error}")
        except StatesUnavailableError:
            logger.warning("image job %s refers to states that Redis does not hold", taken.id)
            await self._settlement.ask_again(held)
        except RedisError as error:
            logger.warning("image job %s cannot be begun: %r", taken.id, error)
            await self._settlement.hand_back(held, counts=True)
        else:
            await self._draw(held, job)

    async def _read(self, taken: TakenJob) -> RenderJob:
        """Decode and check a job.

        Raises:
            WireError: it is not one that this worker can draw.
            StatesUnavailableError: what it refers to is not in Redis.
            RedisError: Redis cannot be reached.
        """
        read = await asyncio.to_thread(decode_job, taken.body, self._limits)
        if read.job.id != taken.id:
            raise WireError("id: the body is another job's")
        if read.empty_prompt is None:
            return read.job
        return replace(read.job, negative_states=await self._states.get(read.empty_prompt))

    async def _draw(self, held: HeldJob, job: RenderJob) -> None:
        if held.given_up:
            return
        held.steps_left = job.steps
        held.relative_area = self._description.relative_area(job.width, job.height)
        try:
            self._pipeline.add(job)
        except ValueError as error:
            await self._settlement.conclude(held, Failed("invalid_job", str(error)), f"refused: {error}")
            return
        except EngineUnavailableError:
            await self._settlement.hand_back(held, counts=False)
            return
        self._held_jobs.begin_drawing(held)
        if held.taken.tries == 1:
            HANDOFF.observe(held.origin.age_s + held.taken.waited_s + self._loop.time() - held.since)
        update = await self._follow(held)
        self._held_jobs.end_drawing(held)
        if isinstance(update, Failed) and update.code == "unavailable":
            await self._settlement.hand_back(held, counts=True)
            self._engine_died()
            return
        await self._settlement.conclude(held, update)

    async def _follow(self, held: HeldJob) -> Outcome:
        """Tell of a job what may be missed, and return how it ended in the engine."""
        told = 0
        spans = RenderSpans()
        try:
            while True:
                update = await held.updates.get()
                spans.observe(update)
                if isinstance(update, Completed | Failed):
                    return update
                if isinstance(update, Progress):
                    due = update.step * PROGRESS_MESSAGES // update.steps
                    if due == told:
                        continue
                    told = due
                await self._tell(held, update)
        finally:
            spans.end()

    async def _tell(self, held: HeldJob, update: Progress | Preview) -> None:
        """Send what may be missed."""
        if held.given_up:
            return
        try:
            message = Message(held.taken.id, update)
            data = (
                encode_message(message)
                if isinstance(update, Progress)
                else await asyncio.to_thread(encode_message, message)
            )
            await self._consumer.tell(held.taken.server_id, data)
        except RedisError:
            metrics.REDIS_ERRORS.inc()
            logger.debug("an update of image job %s was not told", held.taken.id, exc_info=True)
