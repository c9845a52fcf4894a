"""The wall clock is set, by a day: no answer notices, and nothing that waits or expires goes by it."""

import ast
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from httpx import URL

import server
from tests.faults.answer import pictures
from tests.faults.stage import DRAW, OpenStage
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line

DAY_S = 86400.0

READS_THE_WALL_CLOCK = {
    "dispatch.py": "when a document was stored, for its reader",
    "evaluation/conditions.py": "when a report was made",
    "files/filesystem.py": "the age of files, whose clock is that of the file system: nothing else outlives a process",
    "guard/rate_limits.py": "limits tells the end of a window in Unix time; what is left of it is the difference",
    "guard/windows.py": "the same: the window itself goes by the monotonic clock, or by that of Redis",
    "interleave/making.py": "when a document was begun, for its reader",
    "interleave/renderers/images.py": "when a picture was made, for its reader",
    "llm/prompt.py": "the date, for chat templates that ask for it",
    "observe/logging.py": "when a line was logged",
    "pool/spans.py": "when the spans of a trace began and ended: a jump within one bends the trace alone",
    "service.py": "when the model was loaded, for who asks",
}
"""All of it, and what for."""


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock of this process forward by so many seconds, or back."""
    true_time = time.time
    return lambda jump_s: monkeypatch.setattr(time, "time", lambda: true_time() + jump_s)


@pytest.mark.vllm
@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S], ids=["forward", "back"])
async def test_answers_stored_documents_and_links_outlast_a_clock_that_is_set(
    jump_s: float, set_clock: Callable[[float], None], open_stage: OpenStage, fleet: Fleet, line: Line
) -> None:
    await fleet.start()
    async with open_stage(files={"target": "memory://"}) as stage:
        linked = stage.ask({**DRAW, "store": True, "images": {**DRAW["images"], "delivery": "url"}})
        [picture] = pictures(await linked.document())
        await stage.queued()
        set_clock(jump_s)
        stage.let_go()
        ends = [(await answer.document())[-1].event for answer in stage.answers]
        stored = await stage.client.get(f"/v1/interleaved/{await linked.id()}")
        link = await stage.client.get(URL(picture["url"]).path)
        later = await stage.ask(DRAW).document()

    assert set(ends) == {later[-1].event} == {"document.completed"}
    assert stored.status_code == link.status_code == 200
    await line.until_empty()


def test_the_wall_clock_is_read_only_where_it_is_meant() -> None:
    folder = Path(server.__file__).parent
    readers = {
        file.relative_to(folder).as_posix() for file in folder.rglob("*.py") if reads_the_wall_clock(file.read_text())
    }
    assert readers == set(READS_THE_WALL_CLOCK)


def reads_the_wall_clock(source: str) -> bool:
    """Whether a module calls for the date or the time of day."""
    tree = ast.walk(ast.parse(source))
    attributes = [(ast.unparse(node.value), node.attr) for node in tree if isinstance(node, ast.Attribute)]
    calls = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.fromtimestamp", "date.today"}
    return any(f"{owner}.{name}" in calls for owner, name in attributes)
