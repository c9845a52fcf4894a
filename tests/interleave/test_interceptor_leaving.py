"""The client leaves: whatever the interceptor is doing, all that it started ends with it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
import numpy as np
import pytest

from server.interleave.events import DocumentStarted, ImageQueued
from server.interleave.interceptor import Interceptor, State, prompt_image
from server.llm.engine import PromptImage
from server.pool.base import Queued
from tests.interleave.answers import interceptor, until
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS, Gate


class Scene:
    """An answer brought to one state, and what must have ended after it is left."""

    def __init__(self, engine: ScriptedEngine, pool: ScriptedPool, gate: Gate, state: State, **changes: object) -> None:
        self.engine, self.pool, self.gate, self.state = engine, pool, gate, state
        self.interceptor: Interceptor = interceptor(engine, pool, **changes)  # type: ignore[arg-type]

    async def read(self) -> None:
        """Take all events."""
        async with aclosing(self.interceptor.events()) as events:
            async for _ in events:
                pass

    def check_nothing_runs(self) -> None:
        assert self.engine.requests.running == []
        assert self.pool.record.running == []


def decoding() -> Scene:
    gate = Gate()
    return Scene(ScriptedEngine(turns=[["one", gate, EOS]]), ScriptedPool(), gate, State.DECODING)


def dreaming() -> Scene:
    gate = Gate()
    return Scene(ScriptedEngine(turns=[["one", DREAM]], dreams=[gate]), ScriptedPool(), gate, State.DREAMING)


def dreaming_of_the_negative_prompt() -> Scene:
    gate = Gate()
    engine = ScriptedEngine(turns=[["one", DREAM]], dreams=[(), gate])
    return Scene(engine, ScriptedPool(), gate, State.DREAMING, images={"negative_prompt": "ugly"})


def queued() -> Scene:
    gate = Gate()
    pool = ScriptedPool(jobs=[[gate]])
    return Scene(ScriptedEngine(turns=[["one", DREAM]]), pool, gate, State.RENDERING)


def rendering() -> Scene:
    gate = Gate()
    pool = ScriptedPool(jobs=[[Queued(0, None), gate]])
    return Scene(ScriptedEngine(turns=[["one", DREAM]]), pool, gate, State.RENDERING)


def writing_over_a_picture() -> Scene:
    gate = Gate()
    pool = ScriptedPool(jobs=[[Queued(0, None), Gate()]])
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", gate]])
    return Scene(engine, pool, gate, State.DECODING, images={"feedback": "none"})


def draining() -> Scene:
    gate = Gate()
    pool = ScriptedPool(jobs=[[Queued(0, None), Gate()], [Queued(0, None), gate]])
    engine = ScriptedEngine(turns=[["one", DREAM], ["two", DREAM], ["three", EOS]])
    return Scene(engine, pool, gate, State.DRAINING, images={"feedback": "none"})


scenes = pytest.mark.parametrize(
    "make", [decoding, dreaming, dreaming_of_the_negative_prompt, queued, rendering, writing_over_a_picture, draining]
)


@asynccontextmanager
async def nothing_left_behind() -> AsyncGenerator[None, None]:
    tasks = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == tasks


async def reach(scene: Scene) -> None:
    """Wait until the answer stands still at the gate of its scene."""
    await scene.gate.reached.wait()
    await until(lambda: scene.interceptor.state is scene.state)


@scenes
async def test_closing_the_events_ends_everything(make: Callable[[], Scene]) -> None:
    scene = make()
    async with nothing_left_behind():
        events = scene.interceptor.events()
        assert isinstance(await anext(events), DocumentStarted)
        await reach(scene)
        await events.aclose()
        scene.check_nothing_runs()


@scenes
async def test_cancelling_the_reader_ends_everything(make: Callable[[], Scene]) -> None:
    scene = make()
    async with nothing_left_behind():
        reader = asyncio.create_task(scene.read())
        await reach(scene)
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
        scene.check_nothing_runs()


@scenes
async def test_a_cancel_scope_that_cancels_again_and_again_ends_everything(make: Callable[[], Scene]) -> None:
    scene = make()
    async with nothing_left_behind():
        async with anyio.create_task_group() as group:
            group.start_soon(scene.read)
            await reach(scene)
            group.cancel_scope.cancel()
        scene.check_nothing_runs()


async def test_leaving_while_the_picture_is_fed_back_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, reached, released = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def slow_prompt_image(pixels: np.ndarray) -> PromptImage:
        loop.call_soon_threadsafe(reached.set)
        released.wait()
        return prompt_image(pixels)

    monkeypatch.setattr("server.interleave.interceptor.prompt_image", slow_prompt_image)
    engine, pool = ScriptedEngine(turns=[["one", DREAM], ["two", EOS]]), ScriptedPool()
    making = interceptor(engine, pool)
    async with nothing_left_behind():
        events = making.events()
        await anext(events)
        await reached.wait()
        assert making.state is State.FEEDBACK
        await events.aclose()
        released.set()
        assert len(engine.calls) == 1
        assert engine.requests.running == pool.record.running == []


async def test_events_that_were_never_read_start_nothing() -> None:
    engine = ScriptedEngine(turns=[["one", EOS]])
    async with nothing_left_behind():
        await interceptor(engine).events().aclose()
    assert engine.calls == []


async def test_leaving_at_an_event_that_is_being_read_ends_everything() -> None:
    scene = rendering()
    async with nothing_left_behind():
        async with aclosing(scene.interceptor.events()) as events:
            async for event in events:
                if isinstance(event, ImageQueued):
                    break
        scene.check_nothing_runs()
    assert scene.pool.record.aborted == ["doc-image-0"]
