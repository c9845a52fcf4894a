"""One picture of an answer, from the dream token to the last event of its part."""

import asyncio
import logging
from contextlib import aclosing

import torch

from server.files.base import ImageStore, StorageError, new_image_id
from server.interleave.document import ImageParams
from server.interleave.events import (
    Delivery,
    Image,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
)
from server.interleave.limits import DocumentError, MakingLimits
from server.interleave.outbox import UNNUMBERED
from server.interleave.parts import ImageEvent, Part, Parts
from server.llm.engine import EngineDeadError, EngineError, LLMEngine, Priority, Prompt
from server.observe.tracing import fail, tracer
from server.pool.base import (
    Completed,
    DiffusionPool,
    Preview,
    Progress,
    Queued,
    RenderedImage,
    RenderError,
    RenderJob,
)

logger = logging.getLogger(__name__)

NEW = (UNNUMBERED, UNNUMBERED)
OVERLOADED = "overloaded"
POOL_IS_BEHIND = "too many pictures wait to be drawn"


class Drawing:
    """Draws one picture: first :meth:`dream`, then :meth:`render`.

    Whatever happens, its part begins with an ``ImageQueued`` and, unless it is cancelled, ends with one
    ``ImageCompleted`` or ``ImageFailed``. Of all failures only the death of the engine is raised.

    Args:
        id: of the image job.
        engine: dreams.
        pool: renders.
        params: how pictures of this answer are drawn.
        seed: of this picture.
        first: whether no other picture of this answer came before it.
        dream_priority: of its requests to the engine.
        part: its place in the document.
        parts: take its events.
        files: keep the pictures that are delivered as links.
        limits: how many seconds from now it must be finished in, and when the pool has fallen behind.

    Attributes:
        completed: whether the picture was drawn and, if it is delivered as a link, stored.
    """

    def __init__(
        self,
        id: str,
        engine: LLMEngine,
        pool: DiffusionPool,
        params: ImageParams,
        seed: int,
        first: bool,
        dream_priority: Priority,
        part: Part,
        parts: Parts,
        files: ImageStore,
        limits: MakingLimits,
    ) -> None:
        self.completed = False
        self._id = id
        self._engine = engine
        self._pool = pool
        self._params = params
        self._seed = seed
        self._first = first
        self._dream_priority = dream_priority
        self._part = part
        self._parts = parts
        self._files = files
        self._limits = limits
        self._deadline = asyncio.get_running_loop().time() + limits.image_timeout_s
        self._job: RenderJob | None = None
        self._failure: str | None = None

    async def dream(self, context: Prompt, negative: Prompt | None) -> None:
        """Fetch the dream states after a context, and after the negative prompt if there is one.

        The engine keeps the states of recent contexts, so those of the negative prompt cost nothing the second time.

        Does not begin where the pool has fallen behind and the answer would do without the picture.

        Raises:
            EngineDeadError: there will be no further text either.
            DocumentError: the pool has fallen behind, and the answer would not do without the picture.
        """
        if self._params.on_overload != "wait" and await self._pool_is_behind():
            if self._params.on_overload == "fail":
                raise DocumentError(OVERLOADED, POOL_IS_BEHIND)
            self._fail(OVERLOADED, POOL_IS_BEHIND)
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                states = await self._dream_states("dream", context)
                negative_states = None
                if negative is not None:
                    negative_states = await self._dream_states("negative", negative)
        except EngineDeadError:
            raise
        except EngineError:
            logger.warning("no dream states for image job %s", self._id, exc_info=True)
            self._fail("dream_failed", "the model's states for the picture could not be computed")
        except TimeoutError:
            self._time_out()
        else:
            params = self._params
            self._job = RenderJob(
                id=self._id,
                states=states,
                negative_states=negative_states,
                width=params.width,
                height=params.height,
                steps=params.steps,
                guidance_scale=params.guidance_scale,
                scheduler=params.scheduler,
                seed=self._seed,
                previews=params.previews,
                format=params.format,
                # An answer that has begun holds its place in the language model until it ends.
                priority="normal" if self._first else "high",
                timeout_s=self._deadline - asyncio.get_running_loop().time(),
            )

    async def _pool_is_behind(self) -> bool:
        load = await self._pool.load()
        if load.takes_jobs and not load.workers_alive:
            return not self._limits.wait_for_workers
        return load.seconds_ahead > self._limits.pool_behind_s

    async def _dream_states(self, name: str, context: Prompt) -> torch.Tensor:
        with tracer.start_as_current_span("dream states", attributes={"dreamserve.dream": name}):
            return await self._engine.dream_states(f"{self._id}-{name}", context, self._dream_priority)

    async def render(self) -> RenderedImage | None:
        """Have the picture drawn, and stored if it is delivered as a link. None if that or :meth:`dream` failed."""
        if self._job is None:
            return None
        with tracer.start_as_current_span("picture", attributes=described(self._job)) as span:
            rendered = await self._finish(self._job)
            if self._failure is not None:
                fail(span, self._failure)
            return rendered

    async def _finish(self, job: RenderJob) -> RenderedImage | None:
        """The picture, drawn, stored and told; None if it failed, which is told too."""
        try:
            async with asyncio.timeout_at(self._deadline):
                rendered = await self._draw(job)
                image = self._image(rendered, self._params.delivery)
                if image.delivery == "url":
                    await self._files.put(image.id, image.data)
        except (RenderError, StorageError) as error:
            self._fail(error.code, str(error))
        except TimeoutError:
            self._time_out()
        else:
            self.completed = True
            self._send(ImageCompleted(*NEW, image))
            return rendered
        return None

    async def _draw(self, job: RenderJob) -> RenderedImage:
        """The finished picture. What comes before it is told."""
        async with aclosing(self._pool.render(job)) as updates:
            async for update in updates:
                match update:
                    case Queued(position=position, eta_s=eta_s):
                        self._send(ImageQueued(*NEW, position, eta_s))
                    case Progress(step=step, steps=steps):
                        self._send(ImageProgress(*NEW, step, steps))
                    case Preview(index=index, image=preview):
                        self._send(ImagePreview(*NEW, index, self._image(preview, "inline")))
                    case Completed(image=rendered):
                        return rendered
        raise RenderError("render_failed", "the job ended without a picture")

    def _image(self, rendered: RenderedImage, delivery: Delivery) -> Image:
        height, width, _ = rendered.pixels.shape
        return Image(rendered.data, rendered.format, width, height, self._seed, new_image_id(), delivery)

    def _time_out(self) -> None:
        self._fail("timeout", f"the picture was not finished within {self._limits.image_timeout_s:g} seconds")

    def _fail(self, code: str, message: str) -> None:
        self._failure = code
        self._send(ImageFailed(*NEW, code, message))

    def _send(self, event: ImageEvent) -> None:
        if not self._part.begun and not isinstance(event, ImageQueued):
            self._parts.send(self._part, ImageQueued(*NEW, position=0, eta_s=None))
        self._parts.send(self._part, event)


def described(job: RenderJob) -> dict[str, str | int | float]:
    """What the span of a picture says of it: nothing of what it shows."""
    return {
        "dreamserve.image.job": job.id,
        "dreamserve.image.width": job.width,
        "dreamserve.image.height": job.height,
        "dreamserve.image.steps": job.steps,
        "dreamserve.image.scheduler": job.scheduler,
        "dreamserve.image.guidance_scale": job.guidance_scale,
    }
