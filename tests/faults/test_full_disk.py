"""The disk of the image store is full: pictures that need it fail, and nothing else does."""

from base64 import b64encode

from httpx import URL

from tests.faults.answer import Answer, pictures, text
from tests.faults.image_disk import ImageDisk
from tests.faults.server_process import PATIENT, ServerProcess
from tests.faults.stage import DRAW
from tests.pool.faults.fleet import Fleet
from tests.pool.faults.line import Line
from tests.pool.rendering import eventually

pytestmark = PATIENT

BY_LINK = {**DRAW, "images": {**DRAW["images"], "delivery": "url"}}


async def test_a_full_disk_costs_linked_pictures_alone_until_there_is_room(
    server: ServerProcess, image_disk: ImageDisk, fleet: Fleet, line: Line
) -> None:
    await fleet.start()
    await eventually(server.is_ready)
    kept = image_disk.pictures()
    with image_disk.full(server.pid):
        failed, inline = [await Answer(server.client, body).document() for body in (BY_LINK, DRAW)]
        assert image_disk.pictures() == kept
    stored = await Answer(server.client, BY_LINK).document()

    names = [event.event for event in failed]
    failure = failed[names.index("image.failed")].json()
    assert failure["error"]["code"] == "storage_full"
    assert "text.delta" in names[names.index("image.failed") :]
    assert failed[-1].event == inline[-1].event == stored[-1].event == "document.completed"
    assert text(inline) == text(stored)
    [shown], [linked] = pictures(inline), pictures(stored)
    picture = await server.client.get(URL(linked["url"]).path)
    assert picture.status_code == 200
    assert b64encode(picture.content).decode() == shown["b64_json"]
    await line.until_empty()
