"""``dreamserve evaluate``: through a server, with scripted answers, to its files and its exit code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from server.cli import app
from server.evaluation.evaluate import ANSWERS_FILE, REPORT_FILE, SHEET_FILE
from server.evaluation.plan import Plan
from tests.api.serving import scripted_engine
from tests.cli.conftest import serving
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS

FEW = ["comprehension=2", "creation=1", "relations=1", "composition=1", "interleaving=1", "feedback=1", "judge=5"]


@pytest.fixture(autouse=True)
def logging_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would log to the runner's stderr, which is closed when the command ends."""
    monkeypatch.setattr("server.observe.logging.configure_logging", lambda *_: None)


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers everything with the same word."""
    engine = scripted_engine(*[["Yes.", EOS] for _ in range(20)])
    with serving(engine, ScriptedPool()) as url:
        yield url


def evaluate(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["evaluate", *arguments])


def cases(*chosen: str) -> list[str]:
    """The options for these numbers of cases."""
    return [word for choice in chosen for word in ("--cases", choice)]


def test_it_runs_to_its_end_and_leaves_report_answers_and_sheet(url: str, tmp_path: Path) -> None:
    result = evaluate("--url", url, "--out", str(tmp_path), *cases(*FEW))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / REPORT_FILE).read_text())
    assert report["conditions"]["model"] == "scripted"
    assert report["conditions"]["cases"]["comprehension"] == 2
    assert report["measures"]["creation.color_kind"] | {"interval": 0} == {
        "right": 0,
        "of": 1,
        "share": 0.0,
        "interval": 0,
        "bar": {"goal": 0.95, "sense": "at least", "verdict": "missed"},
    }
    assert report["perplexity"] == {"reason": "HTTP does not tell log probabilities of prompts"}
    assert report["frechet"]["reason"] == "0 pictures are too few"
    answers = [json.loads(line) for line in (tmp_path / ANSWERS_FILE).read_text().splitlines()]
    assert {tuple(answer["answer"]) for answer in answers} == {("Yes.",)}
    assert Image.open(tmp_path / SHEET_FILE).width == 1600
    assert "bar composition 0.000 0.850 missed" in result.output


def test_strict_makes_a_missed_bar_a_failure(url: str, tmp_path: Path) -> None:
    result = evaluate("--url", url, "--out", str(tmp_path), "--strict", *cases(*(f"{c.split('=')[0]}=0" for c in FEW)))
    assert result.exit_code == 1, result.output


def test_a_server_that_is_away_ends_it(tmp_path: Path) -> None:
    result = evaluate("--url", "http://127.0.0.1:9", "--out", str(tmp_path))
    assert result.exit_code == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("choice", ["creations=3", "creation", "creation=-1", "creation=many"])
def test_a_number_of_cases_that_makes_no_sense_is_refused(choice: str) -> None:
    result = evaluate("--cases", choice)
    assert result.exit_code == 2
    assert "NAME=N" in result.output


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert evaluate("--model", str(tmp_path)).exit_code == 2


def test_a_quick_evaluation_has_a_tenth_of_the_cases() -> None:
    plan, quick = Plan(), Plan().quick()
    assert (quick.creation, quick.judge) == (plan.creation // 10, plan.judge)
    assert len(quick.trials(0)) < len(plan.trials(0)) / 8
