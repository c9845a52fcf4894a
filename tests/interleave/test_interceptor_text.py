"""The text of a document: how it begins and ends, its limits and its stop strings."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.interleave.events import DocumentFailed, DocumentStarted, TextDelta
from server.llm.conversation import Message, TextPart
from server.llm.engine import EngineDeadError, EngineError, Priority, Prompt, Sampling, TokenChunk
from server.llm.prompt import PromptError
from tests.interleave.answers import PROMPT, REQUEST, answer, interceptor
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS, Gate


async def test_text_streams_and_ends_with_stop_at_eos() -> None:
    engine = ScriptedEngine(turns=[["Hello.", EOS]])
    made = await answer(engine)
    assert made.parts == ["Hello."]
    assert (made.document.id, made.document.model, made.document.finish_reason) == ("doc", REQUEST.model, "stop")
    usage = made.document.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(engine.calls[0].prompt.token_ids), len("Hello.") + 1)
    assert (usage.image_tokens, usage.images, usage.denoising_steps, usage.length_limit) == (0, 0, 0, None)


async def test_text_goes_out_while_the_model_still_writes() -> None:
    gate = Gate()
    events = interceptor(ScriptedEngine(turns=[["one", gate, " two", EOS]])).events()
    async with aclosing(events):
        assert isinstance(await anext(events), DocumentStarted)
        text = ""
        while text != "one":
            event = await anext(events)
            assert isinstance(event, TextDelta)
            text += event.text
        await gate.reached.wait()
        gate.open()
        assert isinstance(await anext(events), TextDelta)


async def test_deltas_grow_together_only_while_nobody_reads() -> None:
    gate = Gate()
    events = interceptor(ScriptedEngine(turns=[["abc", gate, "def", EOS]])).events()
    async with aclosing(events):
        await anext(events)
        await gate.reached.wait()
        assert await anext(events) == TextDelta(1, 0, "abc")
        gate.open()
        assert [e.text async for e in events if isinstance(e, TextDelta)] == ["d", "e", "f"]


async def test_an_answer_without_tokens_has_no_parts() -> None:
    made = await answer(ScriptedEngine(turns=[[EOS]]))
    assert made.kinds == ["DocumentStarted", "DocumentCompleted"]


async def test_sampling_parameters_reach_the_engine_and_control_tokens_are_banned() -> None:
    engine = ScriptedEngine(turns=[["a", EOS]])
    await answer(engine, temperature=0.5, top_p=0.9, top_k=3, max_tokens=11)
    sampling = engine.calls[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.5, 0.9, 3, 11)
    assert set(sampling.stop_token_ids) == {engine.eos_token_id, engine.config.dream_token_id}
    assert engine.config.control_token_ids - {engine.config.dream_token_id} <= set(sampling.banned_token_ids)
    assert not set(sampling.stop_token_ids) & set(sampling.banned_token_ids)


async def test_max_tokens_counts_dream_tokens_and_text_of_all_engine_requests() -> None:
    engine = ScriptedEngine(turns=[["ab", DREAM], ["cd", DREAM], ["efghij"]])
    made = await answer(engine, max_tokens=9)
    assert made.parts == ["ab", "IMAGE", "cd", "IMAGE", "efg"]
    assert [call.sampling.max_tokens for call in engine.calls] == [9, 6, 3]
    assert made.document.finish_reason == "length"
    assert (made.document.usage.completion_tokens, made.document.usage.length_limit) == (9, "max_tokens")


async def test_a_picture_asked_for_with_the_last_token_is_drawn() -> None:
    engine = ScriptedEngine(turns=[["ab", DREAM]])
    made = await answer(engine, max_tokens=3)
    assert made.parts == ["ab", "IMAGE"]
    assert (made.document.finish_reason, made.document.usage.length_limit) == ("length", "max_tokens")
    assert len(engine.calls) == 1


async def test_eos_as_the_last_allowed_token_is_a_stop() -> None:
    made = await answer(ScriptedEngine(turns=[["ab", EOS]]), max_tokens=3)
    assert (made.document.finish_reason, made.document.usage.length_limit) == ("stop", None)


async def test_without_max_tokens_the_model_writes_until_the_context_is_full() -> None:
    engine = ScriptedEngine(turns=[["a" * 100]], max_model_len=60)
    made = await answer(engine)
    prompt_tokens = made.document.usage.prompt_tokens
    assert made.text == "a" * (60 - prompt_tokens)
    assert (made.document.finish_reason, made.document.usage.length_limit) == ("length", "context")


async def test_max_tokens_beyond_the_context_end_at_the_context() -> None:
    made = await answer(ScriptedEngine(turns=[["a" * 100]], max_model_len=60), max_tokens=1000)
    assert made.document.usage.length_limit == "context"


async def test_a_prompt_that_leaves_no_room_is_refused_before_anything_starts() -> None:
    engine = ScriptedEngine(max_model_len=60)
    with pytest.raises(PromptError, match="60") as refused:
        await answer(engine, messages=(Message("user", (TextPart("x" * 60),)),))
    assert refused.value.param == "messages"
    assert engine.calls == []


async def test_a_negative_prompt_that_leaves_no_room_is_refused_before_anything_starts() -> None:
    engine = ScriptedEngine(max_model_len=60)
    with pytest.raises(PromptError) as refused:
        await answer(engine, images={"negative_prompt": "x" * 60})
    assert refused.value.param == "images.negative_prompt"
    assert engine.calls == []


async def test_a_stop_string_ends_the_document_and_the_engine_request() -> None:
    engine = ScriptedEngine(turns=[["one. STOP two", EOS]])
    made = await answer(engine, stop=("STOP",))
    assert made.parts == ["one. "]
    assert made.document.finish_reason == "stop"
    assert made.document.usage.completion_tokens == len("one. STOP")
    assert engine.requests.aborted == ["doc-text-0"]


async def test_usage_does_not_depend_on_the_chunks_in_which_tokens_come() -> None:
    ids = tuple(ScriptedEngine().tokenizer.encode("one. STOP two").ids)
    made = await answer(ScriptedEngine(turns=[[ids, EOS]]), stop=("STOP",))
    assert made.document.usage.completion_tokens == len("one. STOP")


async def test_the_beginning_of_a_stop_string_at_the_end_is_text() -> None:
    made = await answer(ScriptedEngine(turns=[["one ST", EOS]]), stop=("STOP",))
    assert made.parts == ["one ST"]


async def test_a_stop_string_is_matched_over_a_picture_that_stays() -> None:
    engine = ScriptedEngine(turns=[["one ST", DREAM], ["OP two", EOS]])
    made = await answer(engine, stop=("STOP",))
    assert made.parts == ["one ", "IMAGE"]
    assert made.document.finish_reason == "stop"
    assert engine.requests.aborted == ["doc-text-1"]


async def test_what_was_held_back_over_a_picture_goes_into_its_own_part() -> None:
    engine = ScriptedEngine(turns=[["one ST", DREAM], ["AB", EOS]])
    made = await answer(engine, stop=("STOP",))
    assert made.parts == ["one ST", "IMAGE", "AB"]
    late = made.events.index(next(e for e in made.events if isinstance(e, TextDelta) and "ST" in e.text))
    assert late > made.kinds.index("ImageCompleted")


async def test_a_part_that_is_all_stop_string_leaves_no_gap() -> None:
    engine = ScriptedEngine(turns=[["S", DREAM], ["T", DREAM], ["OP two", EOS]])
    made = await answer(engine, stop=("STOP",))
    assert made.parts == ["IMAGE", "IMAGE"]


async def test_parts_that_were_all_held_back_come_in_order_when_they_are_no_stop_string() -> None:
    engine = ScriptedEngine(turns=[["S", DREAM], ["T", DREAM], ["X", EOS]])
    made = await answer(engine, stop=("STOP",))
    assert made.parts == ["S", "IMAGE", "T", "IMAGE", "X"]


async def test_a_stop_string_that_the_end_of_a_byte_run_completes_prevents_the_picture() -> None:
    engine = ScriptedEngine(turns=[["one\n", DREAM]])
    pool = ScriptedPool()
    made = await answer(engine, pool, stop=("\n",))
    assert (made.parts, made.document.finish_reason, pool.jobs) == (["one"], "stop", [])


async def test_a_dead_engine_fails_the_document() -> None:
    made = await answer(ScriptedEngine(turns=[["one", EngineDeadError("gone")]]))
    assert made.document.error is not None
    assert (made.document.error.code, made.parts) == ("engine_unavailable", ["one"])
    assert made.document.usage.completion_tokens == 3


async def test_a_failed_engine_request_fails_the_document() -> None:
    made = await answer(ScriptedEngine(turns=[["one", EngineError("/secret/path")]]))
    assert made.document.error is not None
    assert made.document.error.code == "engine_error"
    assert "secret" not in made.document.error.message


async def test_an_engine_request_that_just_ends_fails_the_document() -> None:
    class Forgetful(ScriptedEngine):
        async def generate(
            self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
        ) -> AsyncGenerator[TokenChunk, None]:
            yield TokenChunk(tuple(self.tokenizer.encode("one").ids))

    made = await answer(Forgetful())
    assert made.document.error is not None
    assert (made.document.error.code, made.parts) == ("engine_error", ["one"])


async def test_an_unexpected_error_is_logged_and_tells_the_caller_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = await answer(ScriptedEngine(turns=[["one", ZeroDivisionError("/secret/path")]]))
    assert made.document.error is not None
    assert made.document.error.code == "internal_error"
    assert "secret" not in made.document.error.message
    assert "/secret/path" in caplog.text


async def test_a_failure_with_a_picture_on_the_way_ends_the_picture_too() -> None:
    gate = Gate()
    engine = ScriptedEngine(turns=[["a", DREAM], [gate, EngineDeadError("gone")]])
    pool = ScriptedPool(jobs=[[Gate()]])
    making = asyncio.create_task(answer(engine, pool, images={"feedback": "none"}))
    await gate.reached.wait()
    gate.open()
    made = await making
    assert isinstance(made.events[-1], DocumentFailed)
    assert pool.record.running == []


async def test_equal_seeds_give_equal_engine_requests_and_different_ones_do_not() -> None:
    async def seeds(seed: int | None) -> list[int | None]:
        engine = ScriptedEngine(turns=[["a", DREAM], ["b", DREAM], ["c", EOS]])
        await answer(engine, seed=seed)
        return [call.sampling.seed for call in engine.calls]

    assert await seeds(5) == await seeds(5)
    assert len(set(await seeds(5))) == 3
    assert not set(await seeds(5)) & set(await seeds(6))
    assert await seeds(None) == [None] * 3


async def test_the_conversation_reaches_the_engine() -> None:
    engine = ScriptedEngine(turns=[[EOS]])
    await answer(engine, messages=(Message("system", (TextPart("Be brief."),)), *PROMPT))
    ids = engine.calls[0].prompt.token_ids
    assert engine.tokenizer.decode(list(ids)) == "Be brief. USER: Draw a cat. ASSISTANT:"
    assert ids[0] == engine.tokenizer.token_to_id("<s>")
