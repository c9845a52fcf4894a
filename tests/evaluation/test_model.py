"""The model under evaluation: what is sent for a trial, and what comes back of its document."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from models.training.world import Scene, Shape, draw
from server.backend import Backend
from server.client.connection import RefusedError, UnreachableError
from server.evaluation.answering import answer_all
from server.evaluation.comprehension import comprehension_trials
from server.evaluation.model import EvaluatedModel, NotServedError, RemoteServer, remote_model, served_model
from server.evaluation.trial import ModelInput
from server.pool.base import RenderError
from server.settings import Settings
from tests.api.serving import MODEL, scripted_backend, scripted_engine
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

PICTURE = draw(Scene("white", (Shape("circle", "red", "big", "left"),)))
SETTINGS = Settings(model=MODEL)  # type: ignore[arg-type]


@asynccontextmanager
async def scripted(engine: ScriptedEngine, pool: ScriptedPool | None = None) -> AsyncIterator[EvaluatedModel]:
    """A model that answers as its script says."""
    async with served_model(SETTINGS, scripted_backend(engine, pool or ScriptedPool())) as model:
        yield model


def model_input(*prompt: str | np.ndarray, greedy: bool = False) -> ModelInput:
    """Something to ask."""
    return ModelInput(prompt, seed=5, max_pictures=2, greedy=greedy)


async def test_an_answer_has_the_parts_of_the_document_in_order() -> None:
    engine = scripted_engine(["One.", DREAM], ["Two.", DREAM], ["Done.", EOS])
    async with scripted(engine) as model:
        answer = await model.answer(model_input("Draw."))
    first, picture, second, other, last = answer.parts
    assert (first, second, last) == ("One.", "Two.", "Done.")
    assert all(isinstance(part, np.ndarray) and part.shape == (64, 64, 3) for part in (picture, other))
    assert [text for text, _ in answer.pictures] == ["One.", "Two."]
    assert answer.last_text == "Done."
    assert answer.text == "One. Two. Done."


async def test_a_picture_that_failed_keeps_its_place() -> None:
    warm_up, failing = (lambda job: []), [RenderError("render_failed", "out of paint")]
    engine = scripted_engine(["One.", DREAM], ["Done.", EOS])
    async with scripted(engine, ScriptedPool([warm_up, failing])) as model:
        answer = await model.answer(model_input("Draw."))
    assert answer.parts == ("One.", None, "Done.")
    assert answer.pictures == (("One.", None),)
    assert answer.first_picture is None


async def test_a_shown_picture_reaches_the_model_as_it_is() -> None:
    engine = scripted_engine(["Red.", EOS])
    async with scripted(engine) as model:
        await model.answer(model_input(PICTURE, "What is red?"))
    (shown,) = engine.calls[-1].prompt.images
    assert np.array_equal(np.asarray(shown.pixels), PICTURE)


async def test_text_is_sampled_as_the_server_does_unless_it_is_to_be_greedy() -> None:
    engine = scripted_engine()
    async with scripted(engine) as model:
        card = await model.card()
        await model.answer(model_input("Hello."))
        await model.answer(model_input("Hello.", greedy=True))
    sampled = [call.sampling.temperature for call in engine.calls[-2:]]
    assert sampled == [card.sampling.temperature, 0.0]


async def test_answers_come_in_the_order_of_the_trials() -> None:
    trials = list(comprehension_trials(random.Random(0), 8))
    done = []
    async with scripted(scripted_engine(*[[f"Answer {i}.", EOS] for i in range(len(trials))])) as model:
        answered = await answer_all(model, trials, concurrency=1, advance=lambda: done.append(1))
    assert [one.trial for one in answered] == trials
    assert [one.answer.text for one in answered] == [f"Answer {i}." for i in range(len(trials))]
    assert len(done) == len(trials)


async def test_a_model_that_cannot_be_served_is_an_error() -> None:
    @asynccontextmanager
    async def broken(_: Settings) -> AsyncIterator[Backend]:
        raise OSError("no such checkpoint")
        yield

    with pytest.raises(NotServedError, match="cannot be served"):
        async with served_model(SETTINGS, broken):
            pass


async def test_a_server_that_is_away_is_an_error() -> None:
    async with remote_model(RemoteServer("http://127.0.0.1:9")) as model:
        with pytest.raises(UnreachableError, match="no answer from"):
            await model.card()


def answering(*responses: httpx.Response) -> EvaluatedModel:
    """A model whose server gives these responses, one after the other."""
    left = iter(responses)
    transport = httpx.MockTransport(lambda _: next(left))
    return EvaluatedModel(httpx.AsyncClient(transport=transport, base_url="http://server"))


async def test_a_busy_server_is_asked_again() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "0"}, json={"error": {"message": "busy"}})
    document = {
        "id": "doc_1",
        "created": 0,
        "model": "m",
        "status": "completed",
        "parts": [{"type": "text", "text": "Hi."}],
    }
    ready = httpx.Response(200, json={**document, "finish_reason": "stop", "error": None, "usage": None})
    assert (await answering(busy, busy, ready).answer(model_input("Hello."))).parts == ("Hi.",)


async def test_a_server_that_refuses_is_an_error() -> None:
    refusal = httpx.Response(400, json={"error": {"message": "no such field"}})
    with pytest.raises(RefusedError, match="no such field"):
        await answering(refusal).answer(model_input("Hello."))
