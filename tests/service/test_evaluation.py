"""An evaluation through the real service: real vLLM, a real diffusion engine, the embedded checkpoint."""

import io
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from rich.console import Console

from models.diffusion.decoder import DiffusionDecoder
from server.backend import Backend
from server.evaluation.evaluate import Evaluation
from server.evaluation.fidelity import Fidelity
from server.evaluation.measures import MEASURES, SECTIONS
from server.evaluation.model import EvaluatedModel, served_model
from server.evaluation.perplexity import TrueAnswer, answer_logprobs, conversations
from server.evaluation.plan import Plan
from server.evaluation.report import Perplexity
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.pool.local import LocalPool
from server.settings import Settings
from server.vllm_backend import drawing_defaults
from tests.vllm.reference import Reference

pytestmark = pytest.mark.vllm

TINY = Plan(judge=5, comprehension=8, creation=3, relations=1, composition=1, interleaving=1, feedback=1, perplexity=3)


@pytest_asyncio.fixture(scope="module")
async def model(engine: VLLMEngine, checkpoint: Path) -> AsyncIterator[EvaluatedModel]:
    """The embedded model, served."""
    decoder = DiffusionDecoder.from_pretrained(checkpoint / "diffusion")
    prompts, pool = PromptBuilder(engine), LocalPool(decoder)
    pool.start(await engine.dream_states("empty-prompt", prompts.build_negative("")))

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        yield Backend(engine, prompts, pool, drawing_defaults(decoder.description))

    async with served_model(Settings(), open_backend) as served:
        yield served
    await pool.close(drain_s=0)


async def test_a_tiny_evaluation_measures_everything(model: EvaluatedModel) -> None:
    evaluation = Evaluation(TINY, seed=0, concurrency=4, console=Console(file=io.StringIO()))
    report, answered = await evaluation.run(model, {})
    measured = {name for name, tally in report.tallies.items() if tally.of}
    assert measured <= set(MEASURES)
    for section, (first, *_) in SECTIONS.items():
        assert first.name in measured, section
    assert len(answered) == len(TINY.trials(0))
    assert any(one.answer.first_picture is not None for one in answered)
    assert isinstance(report.fidelity, Fidelity)
    assert min(report.fidelity.distance, report.fidelity.floor) > 0
    assert isinstance(report.perplexity, Perplexity)
    assert 1 < report.perplexity.value < math.inf


async def test_log_probabilities_of_answers_are_those_of_the_model(
    model: EvaluatedModel, engine: VLLMEngine, checkpoint: Path
) -> None:
    assert model.backend is not None
    reference, prompts = Reference(checkpoint), model.backend.prompts
    turns = conversations(random.Random(0), 50)
    prompt, answer = next(turn for turn in turns if any(not isinstance(piece, str) for piece in turn[1]))
    found = await answer_logprobs(engine, prompts, "logprobs", prompt, answer)
    true = TrueAnswer.of(prompt, answer, engine, prompts)
    ids, pixels = reference.inputs(true.context.prompt)
    with torch.inference_mode():
        logprobs = reference.model(input_ids=ids[None], pixel_values=pixels).logits[0, :-1].log_softmax(-1)
    expected = logprobs.gather(1, ids[1:, None])[torch.tensor(true.sampled[1:])].flatten()
    assert len(found) == len(expected) == sum(true.sampled)
    assert found == pytest.approx(expected.tolist(), abs=1e-3)
    sampled = [token for token, counts in zip(ids.tolist(), true.sampled, strict=True) if counts]
    assert sampled[-1] == engine.eos_token_id
    assert sampled.count(engine.config.dream_token_id) == sum(not isinstance(piece, str) for piece in answer)
