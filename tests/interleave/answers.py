"""Making documents with scripted engines, and what must hold of every one of them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from server.files.base import ImageStore
from server.files.memory import MemoryImageStore
from server.interleave.document import (
    AnswerImage,
    AnswerText,
    Document,
    DocumentRequest,
    ImageParams,
)
from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    DocumentFailed,
    DocumentStarted,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
    ImageQueued,
    TextDelta,
)
from server.interleave.interceptor import Interceptor
from server.interleave.limits import MakingLimits
from server.llm.conversation import Message, TextPart
from server.llm.prompt import PromptBuilder
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool

PROMPT = (Message("user", (TextPart("Draw a cat."),)),)

IMAGES = ImageParams(
    max=4,
    width=16,
    height=16,
    steps=3,
    guidance_scale=2.0,
    negative_prompt=None,
    scheduler="ddim",
    seed=None,
    format="png",
    previews=0,
    feedback="image",
)

REQUEST = DocumentRequest(
    id="doc",
    model="dreamllm-scripted",
    messages=PROMPT,
    max_tokens=None,
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    seed=7,
    stop=(),
    images=IMAGES,
)


@dataclass(frozen=True)
class Answer:
    """A finished answer."""

    events: list[DocumentEvent]
    document: Document

    @property
    def parts(self) -> list[str]:
        """The parts: their text, ``"IMAGE"``, or the code of the failure."""
        return [(part.code or "IMAGE") if isinstance(part, AnswerImage) else part.text for part in self.document.parts]

    @property
    def text(self) -> str:
        """All text, without the pictures."""
        return "".join(part.text for part in self.document.parts if isinstance(part, AnswerText))

    @property
    def kinds(self) -> list[str]:
        """Names of the events."""
        return [type(event).__name__ for event in self.events]


def interceptor(
    engine: ScriptedEngine,
    pool: ScriptedPool | None = None,
    *,
    images: dict[str, Any] | None = None,
    files: ImageStore | None = None,
    image_timeout_s: float = 60.0,
    unread_bytes: int = 2**20,
    wait_for_workers: bool = False,
    **request: Any,
) -> Interceptor:
    """An interceptor for :data:`REQUEST` with changes."""
    changed = replace(REQUEST, images=replace(IMAGES, **(images or {})), **request)
    files = files or MemoryImageStore(max_bytes=2**20, ttl_s=60)
    limits = MakingLimits(image_timeout_s, unread_bytes=unread_bytes, wait_for_workers=wait_for_workers)
    return Interceptor(engine, pool or ScriptedPool(), changed, PromptBuilder(engine), files, limits)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until something holds that no event tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def answer(engine: ScriptedEngine, pool: ScriptedPool | None = None, **changes: Any) -> Answer:
    """Make one document to its end, and check what every document promises."""
    tasks = asyncio.all_tasks()
    async with aclosing(interceptor(engine, pool, **changes).events()) as stream:
        events = [event async for event in stream]
    assert asyncio.all_tasks() <= tasks
    assert engine.requests.running == []
    check_promises(events)
    return Answer(events, Document.of(events))


def check_promises(events: Sequence[DocumentEvent]) -> None:
    """What the interceptor's docstring promises of the events of any document."""
    assert [event.sequence for event in events] == list(range(len(events)))
    assert isinstance(events[0], DocumentStarted)
    assert isinstance(events[-1], DocumentCompleted | DocumentFailed)
    begun: list[type] = []
    ended: set[int] = set()
    for event in events[1:-1]:
        assert not isinstance(event, DocumentStarted | DocumentCompleted | DocumentFailed)
        assert event.part not in ended
        if event.part == len(begun):
            assert isinstance(event, TextDelta | ImageQueued)
            begun.append(TextDelta if isinstance(event, TextDelta) else ImageQueued)
        if isinstance(event, TextDelta):
            assert event.text
            assert begun[event.part] is TextDelta
        else:
            assert isinstance(event, ImageQueued | ImageProgress | ImagePreview | ImageCompleted | ImageFailed)
            assert begun[event.part] is ImageQueued
        if isinstance(event, ImageCompleted | ImageFailed):
            ended.add(event.part)
    if isinstance(events[-1], DocumentCompleted):
        assert ended == {part for part, kind in enumerate(begun) if kind is ImageQueued}
