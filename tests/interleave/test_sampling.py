"""How the engine requests of an answer sample."""

import pytest

from server.llm.engine import SamplingError
from tests.interleave.answers import answer
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS


async def test_every_engine_request_knows_all_tokens_that_were_sampled_before_it() -> None:
    engine = ScriptedEngine([["ab", DREAM], [DREAM], ["c", EOS]])
    await answer(engine, ScriptedPool(), presence_penalty=1.0)
    a, b = engine.tokenizer.encode("ab", add_special_tokens=False).ids
    dream = engine.config.dream_token_id
    assert [call.sampling.earlier_token_ids for call in engine.calls] == [(), (a, b, dream), (a, b, dream, dream)]


async def test_every_engine_request_samples_as_was_asked_for() -> None:
    engine = ScriptedEngine([["a", DREAM], [EOS]])
    asked = {
        "temperature": 0.3,
        "top_p": 0.8,
        "top_k": 7,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {5: 2.0},
        "logprobs": 3,
    }
    await answer(engine, ScriptedPool(), **asked)
    assert len(engine.calls) == 2
    for call in engine.calls:
        assert {name: getattr(call.sampling, name) for name in asked} == asked


async def test_a_bias_brings_back_no_control_token() -> None:
    engine = ScriptedEngine([["a", DREAM], ["b", EOS]])
    config = engine.config
    bias = dict.fromkeys((config.dream_token_id, config.image_token_id, config.dream_query_token_id), 100.0)
    await answer(engine, ScriptedPool(), logit_bias=bias, images={"max": 1})
    first, spent = (set(call.sampling.banned_token_ids) for call in engine.calls)
    assert bias.keys() - first == {config.dream_token_id}
    assert bias.keys() <= spent


async def test_an_answer_without_pictures_never_dreams_whatever_the_bias() -> None:
    engine = ScriptedEngine([["a", EOS]])
    dream = engine.config.dream_token_id
    await answer(engine, logit_bias={dream: 100.0}, images={"max": 0})
    (call,) = engine.calls
    assert dream in call.sampling.banned_token_ids
    assert dream not in call.sampling.stop_token_ids


async def test_a_json_schema_reaches_the_engine() -> None:
    engine = ScriptedEngine([["{}", EOS]])
    await answer(engine, json_schema='{"type": "object"}', images={"max": 0})
    assert [call.sampling.json_schema for call in engine.calls] == ['{"type": "object"}']


async def test_a_json_schema_for_an_answer_with_pictures_is_refused_before_anything_starts() -> None:
    engine = ScriptedEngine([["{}", EOS]])
    with pytest.raises(SamplingError, match="pictures") as refused:
        await answer(engine, json_schema='{"type": "object"}', images={"max": 1})
    assert refused.value.param == "response_format"
    assert engine.calls == []


async def test_what_the_engine_cannot_sample_is_refused_before_anything_starts() -> None:
    engine = ScriptedEngine([["a", EOS]], refuses=SamplingError("logit_bias", "no such token"))
    with pytest.raises(SamplingError, match="no such token"):
        await answer(engine)
    assert engine.calls == []
