"""Answers of many engine requests on the real engine: what was asked of the sampler holds over the pictures."""

import json
from typing import Any

import pytest

from server.interleave.document import Document
from server.interleave.events import TextDelta
from server.llm.conversation import Message, TextPart
from server.llm.vllm_engine import VLLMEngine
from tests.interleave.answers import Answer, check_promises, interceptor

pytestmark = pytest.mark.vllm


async def answer(engine: VLLMEngine, id: str, text: str, max_images: int = 2, **asked: Any) -> Answer:
    """Greedy, with scripted pictures."""
    messages = (Message("user", (TextPart(text),)),)
    made = interceptor(engine, id=id, messages=messages, images={"max": max_images}, **{"max_tokens": 120, **asked})
    events = [event async for event in made.events()]
    check_promises(events)
    return Answer(events, Document.of(events))


async def test_log_probabilities_line_up_with_the_text_over_pictures(engine: VLLMEngine) -> None:
    made = await answer(engine, "lined-up", "Draw two pictures: a red circle, then a blue star.", logprobs=3)
    told = [token for event in made.events if isinstance(event, TextDelta) for token in event.logprobs]
    assert made.parts.count("IMAGE") == 2
    assert b"".join(token.bytes for token in told) == made.text.encode()
    usage = made.document.usage
    assert len(told) == usage.completion_tokens - 2 - 1  # two dream tokens and the end
    # Greedy: the sampled token is the likeliest one that is not banned.
    assert all(token.logprob in [other.logprob for other in token.top] for token in told)


async def test_penalties_work_over_pictures(engine: VLLMEngine) -> None:
    text = "Draw two pictures: a red circle, then a blue star."
    plain = await answer(engine, "unpenalised", text)
    penalties = {"presence_penalty": 2.0, "frequency_penalty": 2.0}
    penalised = await answer(engine, "penalised", text, **penalties)
    assert plain.parts[0] == penalised.parts[0]
    assert plain.parts != penalised.parts
    assert penalised.document.error is None


async def test_a_bias_makes_the_model_dream_but_not_beyond_its_budget(engine: VLLMEngine) -> None:
    bias = {engine.config.dream_token_id: 100.0}
    one = await answer(engine, "eager", "Hello!", max_images=1, max_tokens=20, logit_bias=bias)
    none = await answer(engine, "forbidden", "Hello!", max_images=0, max_tokens=20, logit_bias=bias)
    assert one.parts[0] == "IMAGE"
    assert one.parts.count("IMAGE") == 1
    assert none.parts == [none.text]


async def test_an_answer_can_be_json(engine: VLLMEngine) -> None:
    schema = {"type": "object", "properties": {"big": {"type": "boolean"}}, "required": ["big"]}
    schema["additionalProperties"] = False
    made = await answer(engine, "json", "Draw a circle.", max_images=0, json_schema=json.dumps(schema))
    assert json.loads(made.text) in ({"big": True}, {"big": False})
    assert made.document.finish_reason == "stop"
