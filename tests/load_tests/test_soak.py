"""The soak on the real server over stand-ins, for some seconds; and that it sees what leaks."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from load_tests.service.holdings import SERVER_AT_REST, Holdings, Process, leaks
from load_tests.soak.visits import WEIGHTS
from tests.commands import run

REST = Holdings(
    at=0.0,
    gauges=dict.fromkeys(SERVER_AT_REST, 0.0),
    processes={"server": Process(2**28, 2**27, files=12, tasks=7)},
    keys=(),
)


@pytest.mark.timeout(900)
async def test_nothing_is_left_of_some_seconds_of_all_kinds_of_visits(tmp_path: Path) -> None:
    times = ["--minutes", "0.2", "--every", "0.1", "--capacity", "0.1", "--kept", "5", "--rest", "120"]
    command = [sys.executable, "-m", "load_tests.soak", "--kind", "scripted", *times, "--out", str(tmp_path)]
    output = await run(command, Path())
    result = json.loads((tmp_path / "result.json").read_text())

    assert result["passed"], output
    assert result["visits"].keys() <= {visit.__name__ for visit in WEIGHTS}
    assert sum(counted["served"] for counted in result["visits"].values()) > len(WEIGHTS)
    assert [checkpoint["after_s"] for checkpoint in result["checkpoints"]] == [0, 6, 12]
    assert "bar soak_leaks 0.000 0.000 met" in output


def test_a_service_that_holds_nothing_has_no_leaks() -> None:
    assert leaks(REST, REST) == {}


@pytest.mark.parametrize("gauge", SERVER_AT_REST)
def test_what_is_still_held_for_a_caller_is_a_leak(gauge: str) -> None:
    held = dataclasses.replace(REST, gauges={**REST.gauges, gauge: 1.0})
    assert leaks(held, REST) == {gauge: "1"}


def test_a_key_a_file_and_a_task_more_than_before_are_leaks() -> None:
    grown = Process(2**28, 2**27, files=13, redis_connections=5, tasks=8)
    held = dataclasses.replace(REST, processes={"server": grown}, keys=("dreamserve:image:a", "dreamserve:image:b"))

    assert leaks(held, REST) == {
        "Redis keys": "2, such as dreamserve:image:a",
        "file descriptors of server": "13, before 12",
        "tasks of server": "8, before 7",
    }


def test_fewer_files_and_connections_to_redis_are_none() -> None:
    shrunk = Process(2**28, 2**27, files=11, redis_connections=50, tasks=6)
    assert leaks(dataclasses.replace(REST, processes={"server": shrunk}), REST) == {}


def test_a_process_that_came_or_went_is_told() -> None:
    other = dataclasses.replace(REST, processes={"worker": Process(2**28, 2**27, files=1)})
    assert leaks(other, REST) == {"processes: worker": "was not there before", "processes: server": "has ended"}
