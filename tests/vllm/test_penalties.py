"""Penalties on the real engine: an answer that is cut into engine requests is the answer that one would give."""

import asyncio
import itertools

import pytest

from server.llm.engine import Prompt, Sampling, TokenLogprobs
from server.llm.vllm_engine import VLLMEngine
from tests.vllm.reference import write_prompt

pytestmark = pytest.mark.vllm

PROMPT = "USER: draw circles and squares and stars ASSISTANT:"
LENGTH = 36
PENALTIES = {
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 0.8},
    "repetition": {"repetition_penalty": 1.3},
    "all": {"presence_penalty": 0.9, "frequency_penalty": 0.4, "repetition_penalty": 1.1},
    "rewards": {"presence_penalty": -0.5, "frequency_penalty": -0.2},
}
every_penalty = pytest.mark.parametrize("penalties", list(PENALTIES.values()), ids=list(PENALTIES))
Sampled = tuple[list[int], list[TokenLogprobs]]


async def sample(
    engine: VLLMEngine, request_id: str, prompt: Prompt, cuts: list[int], *, seams: bool = False, **penalties: float
) -> Sampled:
    """An answer that begins anew at each of the cuts; with ``seams``, as if nothing had come before."""
    ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    for number, end in enumerate([*cuts, LENGTH]):
        sampling = Sampling(
            max_tokens=end - len(ids),
            temperature=0.0,
            logprobs=2,
            earlier_token_ids=() if seams else tuple(ids),
            **penalties,
        )
        context = Prompt((*prompt.token_ids, *ids))
        async for chunk in engine.generate(f"{request_id}-{number}", context, sampling):
            ids += chunk.token_ids
            logprobs += chunk.logprobs
    return ids, logprobs


def assert_same(left: Sampled, right: Sampled) -> None:
    assert left[0] == right[0]
    for a, b in zip(left[1], right[1], strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
        assert [logprob for _, logprob in a.top] == pytest.approx([logprob for _, logprob in b.top], abs=1e-3)


@every_penalty
async def test_a_cut_answer_is_the_uncut_one(engine: VLLMEngine, penalties: dict[str, float]) -> None:
    prompt = write_prompt(engine, PROMPT)
    name = "-".join(penalties)
    whole = await sample(engine, f"{name}-whole", prompt, [], **penalties)
    for cuts in ([1], [24], [5, 9, 17]):
        assert_same(await sample(engine, f"{name}-{cuts}", prompt, cuts, **penalties), whole)


async def test_without_the_earlier_tokens_the_cut_would_show(engine: VLLMEngine) -> None:
    prompt = write_prompt(engine, PROMPT)
    # The strongest that there are: of others a model that is sure of its words may take no notice.
    for name, strength in itertools.product(("presence_penalty", "frequency_penalty"), (2.0, -2.0)):
        request_id, penalty = f"{name}-{strength}", {name: strength}
        whole, _ = await sample(engine, f"{request_id}-seamless", prompt, [], **penalty)
        seams, _ = await sample(engine, f"{request_id}-seams", prompt, [5, 9, 17, 24], seams=True, **penalty)
        assert seams != whole, request_id


async def test_cut_answers_do_not_touch_each_other_in_a_batch(engine: VLLMEngine) -> None:
    prompts = [
        write_prompt(engine, f"USER: {text} ASSISTANT:") for text in ("hello", "a story please", "what can you do?")
    ]
    wanted = [*itertools.product(prompts, [{}, PENALTIES["presence"], PENALTIES["all"]])]
    alone = [
        await sample(engine, f"alone-{i}", prompt, [], **penalties) for i, (prompt, penalties) in enumerate(wanted)
    ]
    together = await asyncio.gather(
        *(
            sample(engine, f"together-{i}", prompt, [4 + i, 20 + i], **penalties)
            for i, (prompt, penalties) in enumerate(wanted)
        )
    )
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
