"""Logs of runs: what a kill leaves of them, and what becomes of points that a run repeats."""

from pathlib import Path

from models.training.curves import LOG, Curves, read_log


def test_points_behind_the_last_checkpoint_are_taken_back(tmp_path: Path) -> None:
    killed = Curves(tmp_path, step=0)
    for step in (1, 2, 3):
        killed.add(step, {"loss": 1.0 / step})
    with (tmp_path / LOG).open("a") as log:
        log.write('{"step": 4, "lo')
    resumed = Curves(tmp_path, step=2)
    resumed.add(3, {"loss": 0.25})
    resumed.close()
    assert read_log(tmp_path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 0.25},
    ]


def test_there_is_no_log_before_the_first_point(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
