"""Users of all surfaces read a server's answers to their ends, leave, come back, and are timed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from load_tests.service.deployment import Deployment

ROOT = Path(__file__).parents[2]
ANSWERS = 100
"""Enough that a kind of user who has no answer among them has none at all: one in eleven draws pictures alone."""
SURFACES = ("interleaved", "chat", "responses", "images")


@pytest.fixture(scope="module")
def rows(scripted: Deployment) -> dict[tuple[str, str], dict[str, Any]]:
    """What locust measured, by what and where."""
    options = [
        "--users=22",
        "--spawn-rate=22",
        "--think=0.05",
        "--resumes=0.5",
        f"--answers={ANSWERS}",
        "--slo-first-token=1e-6",
        "--slo-first-picture=1e6",
    ]
    command = [sys.executable, "-m", "locust", "-f", "load_tests/locustfile.py", "--headless", "--json", *options]
    # Its exit code is 1, as there are failures: nobody can meet that SLO.
    told = subprocess.run([*command, "--host", scripted.url], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "answers within the SLO: first token in 1e-06 s, first picture in 1e+06 s" in told.stderr, told.stderr
    return {(row["method"], row["name"]): row for row in json.loads(told.stdout)}


def test_every_answer_that_is_not_left_comes_to_a_good_end(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    answers = [row for (what, _), row in rows.items() if what in ("answer", "POST", "GET")]
    assert [row for row in answers if row["num_failures"]] == []
    assert all(rows["answer", surface]["num_requests"] for surface in SURFACES)


@pytest.mark.parametrize("surface", SURFACES)
def test_pictures_are_timed(rows: dict[tuple[str, str], dict[str, Any]], surface: str) -> None:
    assert rows["first picture", surface]["min_response_time"] > 0


@pytest.mark.parametrize("surface", ["interleaved", "chat", "responses"])
def test_text_is_timed(rows: dict[tuple[str, str], dict[str, Any]], surface: str) -> None:
    assert rows["first token", surface]["min_response_time"] > 0
    assert rows["gap", surface]["num_requests"] > 0


def test_readers_who_were_cut_off_see_every_event_once(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    resumed = rows["answer", "interleaved, resumed"]
    assert resumed["num_requests"] > 0
    assert resumed["num_failures"] == 0
    assert rows["GET", "/v1/interleaved/{id}"]["num_requests"] > 0


def test_answers_later_than_the_objective_are_no_goodput(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    text = [rows["within SLO", surface] for surface in ("interleaved", "chat", "responses")]
    assert [row["num_failures"] for row in text] == [row["num_requests"] for row in text]
    assert rows["within SLO", "images"]["num_failures"] == 0  # no text, no objective for it
