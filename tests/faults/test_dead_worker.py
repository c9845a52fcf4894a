"""A worker is killed in the middle of a picture: the caller waits a little, and gets the same picture."""

from tests.faults.answer import Answer, pictures, text
from tests.faults.server_process import PATIENT, ServerProcess
from tests.faults.stage import DRAW
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = PATIENT


async def test_a_picture_whose_worker_is_killed_is_drawn_by_another_with_the_same_pixels(
    server: ServerProcess, fleet: Fleet, line: Line
) -> None:
    worker = await fleet.start()
    await eventually(server.is_ready)
    undisturbed = await Answer(server.client, DRAW).document()
    fleet.brake.hold()
    answer = Answer(server.client, DRAW)
    await answer.until("image.progress")
    worker.kill()
    fleet.brake.release()
    another = await fleet.start()
    events = await answer.document()

    assert await another.metric("dreamserve_worker_jobs_taken_over_total") == 1
    assert events[-1].event == "document.completed"
    assert text(events) == text(undisturbed)
    assert [image["b64_json"] for image in pictures(events)] == [image["b64_json"] for image in pictures(undisturbed)]
    await line.until_empty()
