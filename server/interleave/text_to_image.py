"""Pictures straight from a description, with no text around them: the official text-to-image path.

The model reads ``<s> description <dream_start> q0…qN-1 <dream_end>``, without the chat template, and the pictures are
drawn from the one dream, each from noise of its own. They make a document of image parts alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from server.files.base import ImageStore
from server.interleave.document import ImageParams
from server.interleave.drawing import Drawing
from server.interleave.events import DocumentEvent, FinishReason, Usage
from server.interleave.limits import DEFAULT_LIMITS, MakingLimits
from server.interleave.making import Making
from server.interleave.outbox import Outbox, ignore
from server.interleave.parts import Parts
from server.interleave.seeds import derived_seed, random_seed
from server.llm.engine import LLMEngine, Prompt
from server.llm.prompt import PromptBuilder
from server.pool.base import DiffusionPool


@dataclass(frozen=True, slots=True)
class TextToImageRequest:
    """One request for pictures of a description, checked and complete: no default is left to fill in.

    Attributes:
        id: unique; names the document and everything that is started for it.
        model: the name by which the caller asked for the model.
        description: what the pictures show.
        images: how they are drawn; ``images.max`` of them.
    """

    id: str
    model: str
    description: str
    images: ImageParams


class TextToImage:
    """Makes one document of pictures. Used once.

    It promises of the events what :mod:`~server.interleave.interceptor` does. The pictures are drawn together.

    Args:
        engine: dreams.
        pool: renders.
        request: what to make.
        prompts: builds the engine's prompts.
        files: keep the pictures that are delivered as links.
        limits: of the making.
    """

    def __init__(
        self,
        engine: LLMEngine,
        pool: DiffusionPool,
        request: TextToImageRequest,
        prompts: PromptBuilder,
        files: ImageStore,
        limits: MakingLimits = DEFAULT_LIMITS,
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._request = request
        self._prompts = prompts
        self._files = files
        self._limits = limits
        self._seed = random_seed() if request.images.seed is None else request.images.seed
        self._outbox = Outbox(limits.unread_bytes)
        self._parts = Parts(self._outbox.put)
        self._drawings: list[Drawing] = []
        self._contexts: tuple[Prompt, Prompt | None] | None = None

    async def prepare(self) -> int:
        """See :class:`~server.interleave.making.DocumentMaker`."""
        prompt, _ = await self._build_prompts_once()
        return len(prompt.token_ids)

    async def events(self, observe: Callable[[DocumentEvent], None] = ignore) -> AsyncGenerator[DocumentEvent, None]:
        """See :class:`~server.interleave.making.DocumentMaker`."""
        self._outbox.observe = observe
        prompt, negative = await self._build_prompts_once()
        request = self._request
        making = Making(
            request.id, request.model, self._outbox, lambda: self._make(prompt, negative), lambda: self.usage
        )
        async with aclosing(making.events()) as events:
            async for event in events:
                yield event

    @property
    def usage(self) -> Usage:
        """What the document has cost so far. All pictures come from one dream, which is counted once."""
        images = sum(drawing.completed for drawing in self._drawings)
        return Usage(
            prompt_tokens=len(self._contexts[0].token_ids) if self._contexts else 0,
            image_tokens=len(self._engine.config.dream_block) if self._drawings else 0,
            images=images,
            denoising_steps=images * self._request.images.steps,
        )

    async def _build_prompts_once(self) -> tuple[Prompt, Prompt | None]:
        if self._contexts is None:
            self._contexts = await asyncio.to_thread(self._build_prompts)
        return self._contexts

    def _build_prompts(self) -> tuple[Prompt, Prompt | None]:
        """The contexts of the description and, if it plays a part, of the negative prompt."""
        images = self._request.images
        prompt = self._prompts.build_description(self._request.description)
        if images.negative_prompt is None:
            return prompt, None
        negative = self._prompts.build_negative(images.negative_prompt)
        return prompt, negative if images.guidance_scale > 1 else None

    async def _make(self, prompt: Prompt, negative: Prompt | None) -> FinishReason:
        self._drawings = [self._begin_drawing(number) for number in range(self._request.images.max)]
        try:
            for drawing in self._drawings:
                # The engine keeps the states of recent contexts: after the first time they are at hand.
                await drawing.dream(prompt, negative)
            async with asyncio.TaskGroup() as renderings:
                for drawing in self._drawings:
                    renderings.create_task(drawing.render(), name=f"drawing for {self._request.id}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            self._parts.end_text()
        return "stop"

    def _begin_drawing(self, number: int) -> Drawing:
        return Drawing(
            id=f"{self._request.id}-image-{number}",
            engine=self._engine,
            pool=self._pool,
            params=self._request.images,
            seed=derived_seed(self._seed, number),
            first=True,  # none of them holds a place in the language model while it waits
            dream_priority="normal",
            part=self._parts.open_image(held=0),
            parts=self._parts,
            files=self._files,
            limits=self._limits,
        )
