"""A picture that is delivered as a link is in the store before anybody hears of it."""

import asyncio

from server.files.base import IMAGE_ID, StorageError
from server.files.memory import MemoryImageStore
from server.interleave.events import (
    DocumentCompleted,
    DocumentEvent,
    ImageCompleted,
    ImageFailed,
    ImagePreview,
    ImageProgress,
)
from tests.interleave.answers import answer, interceptor, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.script import DREAM, EOS, Gate

STORY = [["Look: ", DREAM], [" There.", EOS]]


class SlowStore(MemoryImageStore):
    """Keeps a picture when the test lets it."""

    def __init__(self) -> None:
        super().__init__(max_bytes=2**20, ttl_s=60)
        self.gate = Gate()
        self.ids: list[str] = []

    async def put(self, id: str, data: bytes) -> None:
        await self.gate.wait()
        await super().put(id, data)
        self.ids.append(id)


class BrokenStore(MemoryImageStore):
    """Keeps no picture."""

    def __init__(self) -> None:
        super().__init__(max_bytes=1, ttl_s=60)

    async def put(self, id: str, data: bytes) -> None:
        raise StorageError("storage_full", "there is no room for the picture")


async def test_nobody_hears_of_a_picture_before_it_is_stored() -> None:
    files = SlowStore()
    told: list[DocumentEvent] = []
    making = interceptor(ScriptedEngine(STORY), files=files, images={"delivery": "url"})

    async def listen() -> None:
        async for event in making.events():
            told.append(event)  # noqa: PERF401 - looked at while it grows

    listening = asyncio.create_task(listen())
    await files.gate.reached.wait()
    await until(lambda: isinstance(told[-1], ImageProgress) and told[-1].step == told[-1].steps)
    assert not files.ids
    files.gate.open()
    await listening

    [picture] = [event.image for event in told if isinstance(event, ImageCompleted)]
    assert picture.delivery == "url"
    kept = await files.get(picture.id)
    assert kept is not None
    assert kept.data == picture.data


async def test_a_picture_that_is_delivered_inline_is_not_stored() -> None:
    files = SlowStore()

    told = await answer(ScriptedEngine(STORY), files=files)

    assert not files.gate.reached.is_set()
    assert told.parts == ["Look: ", "IMAGE", " There."]


async def test_previews_stay_inline_and_have_ids_of_their_own() -> None:
    files = SlowStore()
    files.gate.open()

    told = await answer(ScriptedEngine(STORY), files=files, images={"delivery": "url", "previews": 2})

    previews = [event.image for event in told.events if isinstance(event, ImagePreview)]
    [picture] = [event.image for event in told.events if isinstance(event, ImageCompleted)]
    assert [preview.delivery for preview in previews] == ["inline", "inline"]
    ids = {picture.id, *(preview.id for preview in previews)}
    assert len(ids) == 3
    assert all(IMAGE_ID.fullmatch(id) for id in ids)
    assert files.ids == [picture.id]


async def test_a_picture_that_cannot_be_stored_fails_and_the_text_goes_on() -> None:
    engine = ScriptedEngine(STORY)

    told = await answer(engine, files=BrokenStore(), images={"delivery": "url"})

    assert told.parts == ["Look: ", "storage_full", " There."]
    assert [event.message for event in told.events if isinstance(event, ImageFailed)] == [
        "there is no room for the picture"
    ]
    last = told.events[-1]
    assert isinstance(last, DocumentCompleted)
    assert last.usage.images == 0
    assert not engine.calls[-1].prompt.images


async def test_a_store_that_does_not_answer_costs_no_more_than_the_time_of_the_picture() -> None:
    told = await answer(ScriptedEngine(STORY), files=SlowStore(), images={"delivery": "url"}, image_timeout_s=0.01)

    assert told.parts == ["Look: ", "timeout", " There."]
