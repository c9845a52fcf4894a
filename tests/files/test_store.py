"""What every store of pictures does, and which one a server has."""

import io

import pytest
from PIL import Image
from pydantic import ValidationError

from server.files.base import IMAGE_ID, ImageStore, StoredImage, new_image_id
from server.files.opening import open_image_store
from server.settings import Settings


def encoded(format: str, colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(data, format=format)
    return data.getvalue()


async def test_a_picture_is_there_as_it_was_put(store: ImageStore) -> None:
    red, blue = new_image_id(), new_image_id()
    await store.put(red, encoded("png", "red"))
    await store.put(blue, encoded("webp", "blue"))

    stored = await store.get(red)

    assert stored is not None
    assert stored.data == encoded("png", "red")
    assert stored.media_type == "image/png"
    assert 0 < stored.seconds_left <= 60
    other = await store.get(blue)
    assert other is not None
    assert other.data == encoded("webp", "blue")


async def test_deleted_pictures_are_not_there_and_the_others_are(store: ImageStore) -> None:
    ids = [new_image_id() for _ in range(3)]
    for id in ids:
        await store.put(id, encoded("png"))

    await store.delete([ids[0], new_image_id(), ids[2]])
    await store.delete([])

    assert [await store.get(id) is not None for id in ids] == [False, True, False]


async def test_there_is_nothing_under_other_ids(store: ImageStore) -> None:
    await store.put(new_image_id(), encoded("png"))

    assert await store.get(new_image_id()) is None


async def test_an_expired_picture_is_not_there(settings: Settings) -> None:
    fleeting = settings.model_copy(update={"files": settings.files.model_copy(update={"ttl_s": 0.001})})
    async with open_image_store(fleeting) as store:
        id = new_image_id()
        await store.put(id, encoded("png"))

        while await store.get(id) is not None:
            pass


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_the_bytes_tell_what_picture_they_are(format: str) -> None:
    assert StoredImage(encoded(format), seconds_left=1).media_type == f"image/{format}"


def test_other_bytes_are_not_taken_for_a_picture() -> None:
    with pytest.raises(ValueError, match="no picture"):
        _ = StoredImage(b"<svg onload=alert(1)>", seconds_left=1).media_type


def test_ids_are_long_and_never_the_same() -> None:
    ids = {new_image_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(IMAGE_ID.fullmatch(id) for id in ids)


@pytest.mark.parametrize(("redis", "target"), [({}, "memory://"), ({"url": "redis://localhost"}, "redis://")])
def test_pictures_are_in_redis_by_default_if_there_is_one(redis: dict[str, str], target: str) -> None:
    settings = Settings(redis=redis)

    assert settings.files.target_url(settings.redis) == target


def test_a_redis_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"redis\.url names none"):
        Settings(files={"target": "redis://"})
