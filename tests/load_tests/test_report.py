"""The report runs benchmarks and writes their page, and loses nothing that it cannot measure again."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from load_tests.report import __main__ as report
from load_tests.report import page, runs
from load_tests.results import Results

BENCHMARKS = Path(__file__).parent / "benchmarks"
PARENT_AND_CHILD = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
with subprocess.Popen([sys.executable, "-c", "print('ready', flush=True); input()"]) as child:
    signal.pause()
"""
Reporting = Callable[..., tuple[int, str]]


@pytest.fixture
def reporting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reporting:
    """Write the report of the benchmarks for tests; gives its exit code and the page."""
    shutil.copytree(BENCHMARKS, tmp_path / "sources")
    monkeypatch.setattr(page, "ROOT", tmp_path / "sources")
    monkeypatch.setattr(runs, "PACKAGE", "tests.load_tests.benchmarks")
    monkeypatch.setattr(report, "BENCHMARKS", ("good", "failing", "hanging", "unavailable"))

    def write(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["report", "--out", str(tmp_path), *arguments])
        return report.main(), (tmp_path / report.PAGE).read_text()

    return write


def test_every_goal_stands_beside_its_measure_and_says_whether_it_is_met(
    reporting: Reporting, capsys: pytest.CaptureFixture[str]
) -> None:
    code, written = reporting("--only", "good")
    assert code == 0
    assert "| `hare_to_tortoise` | 162.000  | at least 100 | met        |" in written
    assert "| `tortoise_to_hare` | 0.500    | at most 0.01 | **missed** |" in written
    assert "bar tortoise_to_hare 0.500 0.010 missed" in capsys.readouterr().out


def test_a_chapter_has_tables_plots_and_what_the_benchmark_says_of_itself(reporting: Reporting, tmp_path: Path) -> None:
    _, written = reporting("--only", "good", "--quick")
    assert "## good: something that is fast. Not that it would mean anything\n" in written
    assert "A second paragraph, about `code` and `Results`." in written
    assert "| tortoise | 0.123           |" in written
    assert "![good-way](results/good-way.png)" in written
    assert (tmp_path / "results" / "good-way.png").read_bytes().startswith(b"\x89PNG")
    assert "Conditions (2026-01-31): quick." in written


def test_a_quick_run_tells_how_long_it_took(reporting: Reporting, capsys: pytest.CaptureFixture[str]) -> None:
    reporting("--only", "good", "--quick")
    assert "bar report_quick_minutes 0." in capsys.readouterr().out


def test_notes_beside_a_benchmark_are_in_its_chapter(reporting: Reporting, tmp_path: Path) -> None:
    (tmp_path / "sources" / "good" / page.NOTES).write_text("The tortoise stops to eat.\n")
    _, written = reporting("--only", "good")
    assert written.index("**missed**") < written.index("The tortoise stops to eat.") < written.index("## failing")


def test_a_benchmark_that_fails_is_told_and_the_others_are_run(reporting: Reporting) -> None:
    code, written = reporting("--only", "failing", "good")
    assert code == 1
    assert "**It ended with code 7.**" in written
    assert "`hare_to_tortoise`" in written


def test_a_benchmark_that_hangs_is_ended_and_told_and_the_others_are_run(
    reporting: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LIMIT_S", 0.6)
    code, written = reporting("--only", "hanging")
    assert code == 1
    assert "**It had not ended after 0.01 minutes, and was made to.**" in written


def test_a_benchmark_is_ended_with_all_that_it_has_started() -> None:
    command = [sys.executable, "-c", PARENT_AND_CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        runs.end_group(process)
        assert process.stdout.read() == b""  # which comes to its end when neither holds it any more
        assert process.wait() == 3


def test_a_benchmark_that_cannot_run_here_says_why_and_keeps_what_it_found_elsewhere(
    reporting: Reporting, tmp_path: Path
) -> None:
    found = Results("unavailable", conditions="a machine with a flux capacitor", date="1985-10-26")
    (tmp_path / "results").mkdir()
    found.write(tmp_path / "results" / "unavailable.json")
    code, written = reporting("--only", "unavailable")
    assert code == 0
    assert "**It cannot run here: there is no flux capacitor. What follows was found before.**" in written
    assert "Conditions (1985-10-26): a machine with a flux capacitor." in written


def test_a_chapter_that_is_left_out_keeps_what_was_found_before(reporting: Reporting) -> None:
    reporting("--only", "good")
    _, written = reporting("--only", "unavailable")
    assert "**Not run this time. What follows was found before.**" in written
    assert "`hare_to_tortoise`" in written


@pytest.mark.parametrize("benchmark", report.BENCHMARKS)
def test_a_goal_that_may_be_missed_has_a_page_on_what_bounds_it(benchmark: str) -> None:
    folder = page.ROOT / benchmark
    sources = "".join(source.read_text() for source in folder.glob("*.py"))
    assert (folder / page.NOTES).exists() or "results.at_" not in sources
