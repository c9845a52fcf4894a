"""The contention benchmark: who runs where."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from load_tests.contention.callers import label, require_answered
from load_tests.contention.cores import Halves, empty_loops, halves, move
from load_tests.streams import Stream

THREE_THREADS = "import threading, sys; e = threading.Event(); [threading.Thread(target=e.wait, daemon=True).start() for _ in range(2)]; print('ready', flush=True); sys.stdin.read()"  # noqa: E501


@pytest.fixture
def process() -> Iterator[psutil.Process]:
    command = [sys.executable, "-c", THREE_THREADS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout
        started.stdout.readline()
        yield psutil.Process(started.pid)
        started.kill()


def test_halves_share_no_core() -> None:
    cores = halves()
    if cores is None:
        assert len(os.sched_getaffinity(0)) == 1
        return
    assert not cores.text & cores.pictures
    assert cores.text | cores.pictures == os.sched_getaffinity(0)


@pytest.mark.parametrize(("told", "same"), [(("0", "1"), False), (("0-1", "0-1"), True), (("0,2", "1"), False)])
def test_hardware_threads_of_one_physical_core_are_told(tmp_path: Path, told: tuple[str, str], same: bool) -> None:
    for core, siblings in enumerate(told):
        topology = tmp_path / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")

    assert Halves(frozenset({0}), frozenset({1})).siblings(tmp_path) == same


def test_a_system_that_tells_nothing_of_its_cores_has_no_siblings(tmp_path: Path) -> None:
    assert not Halves(frozenset({0}), frozenset({1})).siblings(tmp_path)


def test_a_process_is_moved_with_all_its_threads(process: psutil.Process) -> None:
    core = min(os.sched_getaffinity(0))
    move(process, {core})

    threads = process.threads()
    assert len(threads) == 3
    assert {frozenset(os.sched_getaffinity(thread.id)) for thread in threads} == {frozenset({core})}


def test_empty_loops_keep_their_cores_busy_and_end() -> None:
    core = max(os.sched_getaffinity(0))
    with empty_loops({core}):
        (loop,) = (child for child in psutil.Process().children() if "while True: pass" in child.cmdline())
        assert loop.cpu_affinity() == [core]
        while not loop.cpu_times().user:
            time.sleep(0.01)
    assert not loop.is_running()


def test_only_events_of_text_are_gaps_of_text() -> None:
    assert label(b"id: 1\nevent: text.delta\ndata: {}") == "text"
    assert label(b"id: 2\nevent: image.progress\ndata: {}") == "other"


def test_a_refused_request_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="429"):
        require_answered(Stream(time.perf_counter(), status=429))
