"""The fan-out benchmark: both servers send the same, and readers see how late it is."""

import time
from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest, FinishReason

from load_tests.fan_out.__main__ import QUICK, Load, report
from load_tests.fan_out.core import TickingCore
from load_tests.fan_out.readers import Reader, Window, readers_of
from load_tests.fan_out.serving import HEALTH, serving
from load_tests.fan_out.ticks import PERIOD_S, load_tokenizer, words
from load_tests.results import Results

PLACES = {b"red": 0, b"blue": 1, b"green": 2}


def asked(request_id: str, max_tokens: int) -> EngineCoreRequest:
    sampling = SamplingParams(max_tokens=max_tokens)
    return EngineCoreRequest(request_id, [1], None, sampling, None, 0.0, None, None, None)


async def test_every_request_gets_the_tokens_of_the_same_ticks() -> None:
    core = TickingCore((4, 8))
    for request_id in ("one", "other"):
        await core.add_request_async(asked(request_id, 1000))

    one, other = (await core.get_output_async()).outputs
    assert one.new_token_ids == other.new_token_ids
    assert len(one.new_token_ids) >= 1


async def test_ticks_that_nobody_asked_for_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    core = TickingCore((4, 8))
    await core.add_request_async(asked("one", 1000))
    later = time.monotonic() + 10 * PERIOD_S
    monkeypatch.setattr(time, "monotonic", lambda: later)

    [output] = (await core.get_output_async()).outputs
    assert len(output.new_token_ids) >= 9


async def test_a_request_ends_at_its_limit_and_one_that_is_aborted_at_once() -> None:
    core = TickingCore((4, 8))
    await core.add_request_async(asked("short", 1))
    await core.add_request_async(asked("left", 1000))
    await core.abort_requests_async(["left", "unknown"])

    [output] = (await core.get_output_async()).outputs
    assert (output.request_id, len(output.new_token_ids), output.finish_reason) == ("short", 1, FinishReason.LENGTH)
    assert (await core.get_output_async()).outputs == []


def test_every_word_of_the_ticks_is_one_token_of_the_tokenizer() -> None:
    tokenizer = load_tokenizer()
    for word, token_id in words(tokenizer).items():
        assert tokenizer.decode([1, token_id]).strip() == word


def test_a_reader_tells_how_late_a_frame_is_by_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(PLACES, broken=set())
    reader.window = Window()
    # Ticks 300 and 303, which have the place of red, and 304; the last frame holds two words.
    for tick, late_s, text in ((300, 0.01, "red"), (303, 0.02, "blue green red"), (304, 0.03, "blue")):
        now = tick * PERIOD_S + late_s
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        reader.data_received(b'1f\r\nid: 1\ndata: {"content":" %s"}\n\n\r\n' % text.encode())

    assert reader.window.ticks == 4
    assert reader.window.frames == 2
    assert reader.window.lateness == pytest.approx([0.02, 0.03])


@pytest.mark.vllm
@pytest.mark.parametrize("name", list(HEALTH))
async def test_readers_of_both_servers_see_every_tick(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path / "server.log") as (port, _):
        async with readers_of(port, list(words(load_tokenizer()))) as readers:
            await readers.grow(2)
            window = await readers.watch(1.0)

    assert window.frames > 0
    assert window.ticks >= window.frames
    assert min(window.lateness) > 0


def test_the_report_compares_the_servers_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    def load(readers: int, us_per_token: float) -> Load:
        return Load(readers, 0.5, 1.0, us_per_token, 1.0, 1.0, 2.0, 100.0, 0.3)

    # A machine that is twice as slow in the second round changes no ratio.
    rounds = {
        "ours": [[load(100, 60.0), load(1000, 50.0)], [load(100, 120.0), load(1000, 100.0)]],
        "vllm": [[load(100, 50.0), load(1000, 40.0)], [load(100, 100.0), load(1000, 80.0)]],
    }
    report(Results("fan_out"), rounds, QUICK)

    printed = capsys.readouterr().out
    assert "bar fan_out_cpu_of_vllm_serve_100_readers 1.200 1.300 met" in printed
    assert "bar fan_out_cpu_of_vllm_serve_1000_readers 1.250 1.300 met" in printed
