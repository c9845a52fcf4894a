"""The simulation of servers and workers: what can be worked out by hand, it must find; and how it is measured."""

import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from load_tests.capacity.__main__ import main
from load_tests.capacity.measure import fitted
from load_tests.capacity.plan import fewest, keeps, percentile, plan, seconds_of_a_server
from load_tests.capacity.profile import LanguageModel, Painter, Profile, h100_estimate
from load_tests.capacity.recording import record
from load_tests.capacity.simulation import Times, simulate
from load_tests.capacity.traffic import Answer, Traffic
from models.diffusion.step_times import StepTimes
from server.pool.base import Completed, Queued
from tests.api.serving import on_socket, scripted_engine
from tests.scripted.pool import ScriptedPool, rendered
from tests.scripted.script import DREAM, EOS

MODEL = LanguageModel(step_s=1.0, token_s=0.01, context_s=0.0, max_seqs=8, max_tokens=100, request_s=0.5)
PAINTER = Painter(StepTimes(((1, 1.0), (4, 2.0))), steps=10, max_batch=4, hand_off_s=0.25, decode_s=0.0, finish_s=0.75)
PROFILE = Profile("by hand", "made up", MODEL, PAINTER, query_tokens=20, image_tokens=40)
SLO = {"first_token_s": 5.0, "picture_s": 60.0}


def alone(*segments: int, prompt: int = 50) -> Answer:
    return Answer(0.0, prompt, segments)


def test_text_alone_takes_a_prefill_and_a_step_for_each_token() -> None:
    times = simulate(PROFILE, [alone(9)], servers=1, workers=0)
    assert times.first_token_s == [pytest.approx(0.5 + 1 + 50 * 0.01)]
    # The end is a token too, so ten are sampled: the first by the prefill, nine by steps of one token.
    assert times.answer_s == [pytest.approx(times.first_token_s[0] + 9 * 1.01)]


def test_a_long_prompt_is_cut_into_chunks() -> None:
    times = simulate(PROFILE, [alone(1, prompt=250)], servers=1, workers=0)
    assert times.first_token_s == [pytest.approx(0.5 + 3 * 1 + 250 * 0.01)]


def test_a_picture_takes_its_dream_states_its_steps_and_the_way_there_and_back() -> None:
    times = simulate(PROFILE, [alone(1, 1)], servers=1, workers=1)
    states, drawn, fed_back = 1 + 20 * 0.01, 0.25 + 10 * 1.0 + 0.75, 1 + 40 * 0.01
    assert times.picture_s == [pytest.approx(states + drawn)]
    assert times.answer_s == [pytest.approx(0.5 + (1 + 0.5) + 1.01 + states + drawn + fed_back + 1.01)]


def test_sequences_share_steps() -> None:
    times = simulate(PROFILE, [alone(9), alone(9)], servers=1, workers=0)
    assert times.answer_s == [pytest.approx(0.5 + 1 + 100 * 0.01 + 9 * (1 + 2 * 0.01))] * 2


def test_a_second_server_takes_the_second_answer() -> None:
    times = simulate(PROFILE, [alone(9), alone(9)], servers=2, workers=0)
    assert times.answer_s == simulate(PROFILE, [alone(9)], servers=1, workers=0).answer_s * 2


def test_pictures_share_steps_up_to_the_batch_and_then_wait() -> None:
    four = simulate(PROFILE, [alone(1, 1, prompt=10)] * 4, servers=1, workers=1)
    assert max(four.picture_s) == pytest.approx(1 + 80 * 0.01 + 0.25 + 10 * 2.0 + 0.75)
    five = simulate(PROFILE, [alone(1, 1, prompt=10)] * 5, servers=1, workers=1)
    assert max(five.picture_s) == pytest.approx(1 + 100 * 0.01 + 0.25 + 10 * 2.0 + 10 * 1.0 + 0.75)


def test_a_reader_of_context_slows_its_steps() -> None:
    slow = replace(PROFILE, language_model=replace(MODEL, context_s=0.1))
    taken = simulate(slow, [alone(2)], servers=1, workers=0).answer_s[0]
    assert taken == pytest.approx(0.5 + 1.5 + (1.01 + 51 * 0.1) + (1.01 + 52 * 0.1))


def test_too_few_machines_leave_answers_unfinished() -> None:
    traffic = Traffic(rate=2.0, images=1.0, prompt_tokens=50, text_tokens=2)
    answers = list(traffic.answers(random.Random(0), 100))
    assert simulate(PROFILE, answers, servers=4, workers=1).unfinished
    assert not simulate(PROFILE, answers, servers=4, workers=20).unfinished


def test_what_fills_the_machines_is_not_counted() -> None:
    answers = [alone(1), Answer(5.0, 50, (1,))]
    assert len(simulate(PROFILE, answers, servers=1, workers=0, counted_from_s=1.0).answer_s) == 1


def test_traffic_is_what_was_asked_for() -> None:
    answers = list(Traffic(10.0, 1.5, 200, 300).answers(random.Random(0), 1000))
    assert len(answers) / 1000 == pytest.approx(10, rel=0.05)
    assert {answer.pictures for answer in answers} == {1, 2}
    assert sum(answer.pictures for answer in answers) / len(answers) == pytest.approx(1.5, rel=0.05)
    assert sum(answer.prompt_tokens for answer in answers) / len(answers) == pytest.approx(200, rel=0.05)
    assert sum(sum(answer.segments) for answer in answers) / len(answers) == pytest.approx(300, rel=0.05)


def test_a_worker_takes_no_step_while_it_decodes() -> None:
    painter = replace(PAINTER, decode_s=3.0, finish_s=0.0, hand_off_s=0.0)
    profile = replace(PROFILE, painter=painter, language_model=replace(MODEL, token_s=0.0, request_s=0.0))
    early, late = Answer(0.0, 50, (1, 1)), Answer(4.5, 50, (1, 1))
    alone = simulate(profile, [early], servers=1, workers=1).picture_s[0]
    first, second = simulate(profile, [early, late], servers=2, workers=1).picture_s
    steps_s = painter.steps * painter.step_times.seconds(1)
    assert alone == pytest.approx(1.0 + steps_s + 3.0)  # the dream is one step of the language model
    assert first > alone
    assert second > first - 4.5 + 3.0
    assert painter.pictures_per_s == pytest.approx(1 / (10 * 2.0 / 4 + 3.0))


def test_a_plan_has_the_fewest_machines_that_keep_the_promise() -> None:
    traffic = Traffic(rate=0.5, images=1.0, prompt_tokens=50, text_tokens=20)
    found = plan(PROFILE, traffic, SLO, most_busy=1.0, seconds=200, seed=0)
    answers = list(traffic.answers(random.Random(0), 200))

    def kept(servers: int, workers: int) -> bool:
        return keeps(simulate(PROFILE, answers, servers, workers, counted_from_s=50), SLO)

    assert kept(found.servers, found.workers)
    assert found.servers == found.least_servers or not kept(found.servers - 1, found.workers)
    assert found.workers == found.least_workers or not kept(found.servers, found.workers - 1)


def test_machines_are_no_busier_than_they_may_be() -> None:
    traffic = Traffic(rate=100.0, images=2.0, prompt_tokens=200, text_tokens=300)
    full = plan(h100_estimate(), traffic, {}, most_busy=1.0, seconds=5, seed=0)
    half = plan(h100_estimate(), traffic, {}, most_busy=0.5, seconds=5, seed=0)
    assert half.workers == pytest.approx(2 * full.workers, abs=1)
    assert half.servers == pytest.approx(2 * full.servers, abs=1)


def test_the_page_on_kubernetes_has_the_numbers_of_the_simulation() -> None:
    page = (Path(__file__).parents[2] / "k8s" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (servers|workers); [^|]+\| (\d+) \|", page, re.MULTILINE))
    servers, workers = int(rows["servers"]), int(rows["workers"])
    profile, traffic = h100_estimate(), Traffic(rate=1000, images=2, prompt_tokens=200, text_tokens=300)
    answers = list(traffic.answers(random.Random(0), 4))

    assert servers == math.ceil(traffic.rate * seconds_of_a_server(profile, traffic) / 0.85)
    assert workers == math.ceil(traffic.rate * traffic.images / profile.painter.pictures_per_s / 0.85)
    assert keeps(simulate(profile, answers, servers, workers), {"first_token_s": 1.0, "picture_s": 5.0})


def test_a_promise_that_nothing_can_keep_is_told() -> None:
    traffic = Traffic(rate=0.5, images=1.0, prompt_tokens=50, text_tokens=20)
    with pytest.raises(ValueError, match="no number of machines"):
        plan(PROFILE, traffic, {"picture_s": 5.0}, most_busy=1.0, seconds=100, seed=0)


def test_unfinished_answers_keep_no_promise() -> None:
    assert keeps(Times(first_token_s=[1.0], answer_s=[2.0]), {"first_token_s": 1.0})
    assert not keeps(Times(first_token_s=[1.0], answer_s=[2.0]), {"first_token_s": 0.9})
    assert not keeps(Times(first_token_s=[1.0], unfinished=1), {"first_token_s": 1.0})


@pytest.mark.parametrize("needed", [3, 4, 5, 9, 20, 30])
def test_the_fewest_are_found(needed: int) -> None:
    assert fewest(3, lambda count: count >= needed) == needed


def test_percentiles() -> None:
    assert percentile(list(range(101)), 95) == pytest.approx(95)
    assert percentile([7.0]) == 7.0


def test_a_profile_lives_in_a_file() -> None:
    assert Profile.from_json(PROFILE.to_json()) == PROFILE


def test_times_are_fitted_without_ever_being_negative() -> None:
    rows = [(1.0, tokens, context) for tokens in (1.0, 4.0, 8.0) for context in (10.0, 500.0)]
    assert fitted(rows, [2 + 0.5 * t + 0.01 * c for _, t, c in rows]) == pytest.approx([2, 0.5, 0.01])
    assert fitted(rows, [2 + 0.5 * t - 0.001 * c for _, t, c in rows])[2] == 0.0


async def test_an_answer_is_recorded_as_the_simulation_takes_it() -> None:
    pool = ScriptedPool([lambda job: [Queued(0, None), Completed(rendered(job))]])
    async with on_socket(scripted_engine(["One ", "two ", DREAM], ["three.", EOS]), pool) as app:
        recording = await record(str(app.client.base_url).rstrip("/"), {"input": "Say it."}, epoch=0.0)
    assert len(recording.picture_s) == len(recording.asked_picture_s) == 1
    assert 2 <= len(recording.token_s) <= len("One two three.")  # what waits for its reader grows into one event
    assert recording.token_s == tuple(sorted(recording.token_s))
    assert recording.asked_picture_s[0] <= recording.picture_s[0] <= recording.ended_s
    assert recording.answer.pictures == 1
    assert recording.prompt_tokens > 0


def test_the_command_prints_how_many_are_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["capacity", "--rate", "5", "--images", "1", "--seconds", "10"])
    main()
    printed = capsys.readouterr().out
    assert "estimated" in printed
    assert "worker GPUs: 2 (2 by load alone)" in printed


@pytest.mark.parametrize("slo", ["speed=1", "answer_s=0", "answer_s=soon"])
def test_a_promise_that_is_none_is_refused(
    slo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["capacity", "--rate", "5", "--slo", slo])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "argument --slo" in capsys.readouterr().err
