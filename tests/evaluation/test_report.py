"""The report: table, lines of bars, JSON, contact sheet."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from server.evaluation.answering import Answered
from server.evaluation.fidelity import Fidelity
from server.evaluation.measures import MEASURES
from server.evaluation.plan import Plan
from server.evaluation.report import Perplexity, Report
from server.evaluation.scores import NotMeasured, Tally
from server.evaluation.sheet import MARGIN, PICTURE, WIDTH, contact_sheet
from server.evaluation.trial import Answer
from tests.evaluation.perfect import answered_document, perfect_answer

CONDITIONS = {"model": "tiny", "date": "2026-11-23T05:00:00+00:00", "seed": 0, "checkpoint": "0123456789abcdef"}
GOOD = {name: Tally(100, 100) for name in MEASURES} | {"feedback.control": Tally(3, 100)}


def report(tallies: dict[str, Tally]) -> Report:
    """A report of these tallies."""
    return Report(CONDITIONS, tallies, Fidelity(90, 12.5, 3.25), Perplexity(4321, 1.234))


def printed(of: Report) -> str:
    """What is shown in a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    of.show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_bar_has_a_line_that_programs_can_read() -> None:
    lines = [line.split() for line in printed(report(GOOD)).splitlines() if line.startswith("bar ")]
    assert ["bar", "comprehension", "1.000", "0.950", "met"] in lines
    assert ["bar", "feedback.control", "0.030", "0.400", "met"] in lines
    assert {line[1] for line in lines} == {name for name, measure in MEASURES.items() if measure.bar}


def test_a_bar_that_is_missed_says_so() -> None:
    missing = report(GOOD | {"relations": Tally(79, 100)})
    assert "bar relations 0.790 0.800 missed" in printed(missing)
    assert not missing.meets_all_bars
    assert report(GOOD).meets_all_bars


def test_the_table_tells_shares_intervals_distance_and_perplexity_in_80_columns() -> None:
    shown = printed(report(GOOD | {"creation.place": Tally(90, 100)}))
    (row,) = [line for line in shown.splitlines() if "places as asked for" in line]
    assert row.split()[4:] == ["90/100", "90.0%", "82.6", "-", "94.5", "≥", "90%", "met"]
    assert "12.50" in shown
    assert "3.25" in shown
    assert "1.234" in shown
    assert "EfficientNet-Lite0" in shown
    assert "…" not in shown


def test_what_was_not_measured_is_told_with_its_reason() -> None:
    empty = Report(CONDITIONS, {}, NotMeasured("0 pictures are too few"), NotMeasured("no documents"))
    shown = printed(empty)
    assert "perplexity: not measured, no documents" in shown
    assert "Fréchet distance: not measured, 0 pictures are too few" in shown
    assert empty.json()["perplexity"] == {"reason": "no documents"}
    assert "bar comprehension - 0.950 missed" in shown


def test_the_json_holds_all_of_it() -> None:
    read = json.loads(json.dumps(report(GOOD).json()))
    assert read["conditions"] == CONDITIONS
    assert read["meets_all_bars"] is True
    place = read["measures"]["creation.place"]
    assert (place["right"], place["of"], place["share"]) == (100, 100, 1.0)
    assert place["bar"] == {"goal": 0.9, "sense": "at least", "verdict": "met"}
    assert read["frechet"]["distance"] == 12.5
    assert read["perplexity"] == {"tokens": 4321, "value": 1.234}


def answered(plan: Plan) -> list[Answered]:
    """The trials of a plan and a document, each with its best answer."""
    pairs = [(trial, perfect_answer(trial)) for trial in plan.trials(0)] + [answered_document("story", 3)]
    return [Answered(trial, answer, trial.assess(answer)) for trial, answer in pairs]


def test_the_contact_sheet_shows_the_pictures() -> None:
    cases = answered(Plan(comprehension=3, creation=3, relations=0, composition=0, interleaving=0, feedback=0))
    sheet = contact_sheet(report(GOOD), cases)
    assert sheet.width == WIDTH
    pixels = np.asarray(sheet)
    for one in cases:
        shown = next((p for p in one.trial.input.prompt if isinstance(p, np.ndarray)), one.answer.first_picture)
        assert shown is not None
        thumbnail = np.asarray(Image.fromarray(shown).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS))
        assert shows(pixels, thumbnail)


def shows(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture is somewhere on a sheet."""
    corner = (sheet == picture[0, 0]).all(-1) & np.roll((sheet == picture[-1, -1]).all(-1), (1 - PICTURE,) * 2, (0, 1))
    rows, columns = np.nonzero(corner)
    places = ((y, x) for y, x in zip(rows, columns, strict=True) if MARGIN < x < WIDTH - MARGIN - PICTURE)
    return any(np.array_equal(sheet[y : y + PICTURE, x : x + PICTURE], picture) for y, x in places)


@pytest.mark.parametrize("parts", [(), ("word " * 400,), (None,), ("a" * 300, None, "b", None, "c")])
def test_the_contact_sheet_takes_any_answer(parts: tuple[str | None, ...]) -> None:
    answer = Answer(parts)
    trials = Plan(1, 1, 1, 1, 1, 3, 1).trials(0)
    cases = [Answered(trial, answer, trial.assess(answer)) for trial in trials]
    assert contact_sheet(report({}), cases).height > 600
