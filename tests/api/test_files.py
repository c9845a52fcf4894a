"""Pictures that are delivered as links: the links, what is behind them, and conversations that refer to them."""

import base64
import io
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from httpx_sse import aconnect_sse
from PIL import Image

from server.files.base import StorageError, new_image_id
from tests.api.serving import Running, in_memory, on_socket, scripted_engine
from tests.scripted.script import DREAM, EOS

STORY = (["Look: ", DREAM], ["There.", EOS])
AS_LINKS = {"input": "Show me.", "images": {"delivery": "url"}}


async def document(app: Running, **body: Any) -> dict[str, Any]:
    """A document of :data:`STORY`, its picture a link."""
    response = await app.client.post("/v1/interleaved", json={**AS_LINKS, **body})
    assert response.status_code == 200, response.text
    whole: dict[str, Any] = response.json()
    return whole


async def link(app: Running, **body: Any) -> str:
    """The link to the picture of a new document."""
    url: str = (await document(app, **body))["parts"][1]["image"]["url"]
    return url


async def test_a_picture_is_behind_its_link() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()

        image = (await document(app))["parts"][1]["image"]
        response = await app.client.get(image["url"])

    assert image.keys() == {"url", "format", "width", "height", "seed"}
    assert response.status_code == 200
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.size) == ("PNG", (image["width"], image["height"]))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_a_link_says_what_it_leads_to(format: str) -> None:
    async with in_memory(scripted_engine(*STORY), files={"ttl_s": 600}) as app:
        await app.ready()

        url = await link(app, images={"delivery": "url", "format": format})
        response = await app.client.get(url)

    id = url.rsplit("/", 1)[-1]
    assert response.headers["content-type"] == f"image/{format}"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["content-disposition"] == f'inline; filename="{id}.{format}"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["etag"] == f'"{id}"'
    caching = response.headers["cache-control"].split(", ")
    assert [caching[0], caching[2]] == ["private", "immutable"]
    assert 0 < int(caching[1].removeprefix("max-age=")) <= 600


async def test_a_stream_brings_previews_themselves_and_a_link_that_works_at_once() -> None:
    body = {"input": "Show me.", "stream": True, "images": {"delivery": "url", "previews": 1}}
    previews, links = [], []
    async with (
        on_socket(scripted_engine(*STORY)) as app,
        aconnect_sse(app.client, "POST", "/v1/interleaved", json=body) as source,
    ):
        async for event in source.aiter_sse():
            if event.event == "image.preview":
                previews.append(event.json()["image"])
            if event.event == "image.completed":
                links.append((await app.client.get(event.json()["image"]["url"])).status_code)

    assert [preview.keys() & {"url", "b64_json"} for preview in previews] == [{"b64_json"}]
    assert links == [200]


async def test_the_same_request_gets_the_picture_itself_unless_it_asks_for_a_link() -> None:
    async with in_memory(scripted_engine(*STORY, *STORY)) as app:
        await app.ready()

        url = await link(app, seed=1)
        inline = (await document(app, seed=1, images={}))["parts"][1]["image"]["b64_json"]
        linked = (await app.client.get(url)).content

    assert base64.b64decode(inline) == linked


async def test_a_chat_completion_may_hold_links_too() -> None:
    body = {"messages": [{"role": "user", "content": "Show me."}], "images": {"delivery": "url"}}
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()

        message = (await app.client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        response = await app.client.get(message["images"][0]["image_url"]["url"])

    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize("id", [new_image_id(), "file_1", "..%2F..%2Fetc%2Fpasswd", new_image_id() + "%0A", "%00"])
async def test_there_is_nothing_behind_other_links(id: str, running: Running) -> None:
    for method in ("GET", "HEAD"):
        response = await running.client.request(method, f"/v1/files/images/{id}")
        assert response.status_code == 404

    error = (await running.client.get(f"/v1/files/images/{new_image_id()}")).json()["error"]
    assert error["code"] == "image_not_found"
    assert error["type"] == "invalid_request_error"


async def test_a_link_leads_nowhere_once_the_picture_has_expired() -> None:
    async with in_memory(scripted_engine(*STORY), files={"ttl_s": 0.001}) as app:
        await app.ready()

        url = await link(app)
        while (response := await app.client.get(url)).status_code == 200:
            pass

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "image_not_found"


async def test_who_has_the_picture_is_not_sent_it_again() -> None:
    async with in_memory(scripted_engine(*STORY)) as app:
        await app.ready()
        url = await link(app)
        tag = (await app.client.get(url)).headers["etag"]

        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            response = await app.client.get(url, headers={"If-None-Match": known})
            assert response.status_code == 304
            assert response.content == b""
            assert response.headers["etag"] == tag
            assert "max-age" in response.headers["cache-control"]
        assert (await app.client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_head_tells_all_but_the_picture() -> None:
    async with on_socket(scripted_engine(*STORY)) as app:
        url = await link(app)

        get, head = await app.client.get(url), await app.client.head(url)

    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length", "content-disposition", "etag"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("settings", "headers", "begin"),
    [
        ({}, {}, "http://dreamserve/v1/"),
        ({}, {"Host": "dream.example.com"}, "http://dream.example.com/v1/"),
        ({"server": {"root_path": "/dream"}}, {}, "http://dreamserve/dream/v1/"),
        ({"files": {"public_url": "https://example.com/dream/"}}, {}, "https://example.com/dream/v1/"),
    ],
)
async def test_links_are_those_that_the_caller_can_follow(
    settings: dict[str, Any], headers: dict[str, str], begin: str
) -> None:
    async with in_memory(scripted_engine(*STORY), **settings) as app:
        await app.ready()
        response = await app.client.post("/v1/interleaved", json=AS_LINKS, headers=headers)

    assert response.json()["parts"][1]["image"]["url"].startswith(f"{begin}files/images/file_")


async def test_behind_a_proxy_with_tls_links_have_its_scheme() -> None:
    async with on_socket(scripted_engine(*STORY)) as app:
        response = await app.client.post("/v1/interleaved", json=AS_LINKS, headers={"X-Forwarded-Proto": "https"})

    assert response.json()["parts"][1]["image"]["url"].startswith("https://")


async def test_a_picture_that_cannot_be_stored_fails_alone() -> None:
    async with in_memory(scripted_engine(*STORY), files={"max_bytes": 1}) as app:
        await app.ready()

        parts = (await document(app))["parts"]

    assert [part["type"] for part in parts] == ["text", "image", "text"]
    assert parts[1]["error"]["code"] == "storage_full"


async def test_a_store_that_cannot_be_read_is_not_taken_for_a_picture_that_is_not_there(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(id: str) -> None:
        raise StorageError("storage_failed", "the store of pictures cannot be reached")

    monkeypatch.setattr(running.service.files, "get", fail)
    response = await running.client.get(f"/v1/files/images/{new_image_id()}")

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "storage_failed"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("written", ["link", "elsewhere", "path", "id"])
async def test_a_conversation_may_refer_to_an_earlier_picture(written: str) -> None:
    async with in_memory(scripted_engine(*STORY, ["Red.", EOS])) as app:
        await app.ready()
        url = await link(app)
        forms = {
            "link": url,
            "elsewhere": f"https://proxy.example.com/dream{urlsplit(url).path}",
            "path": urlsplit(url).path,
            "id": url.rsplit("/", 1)[-1],
        }

        response = await ask_about(app, forms[written])
        [seen] = app.engine.calls[-1].prompt.images
        [fed_back] = app.engine.calls[-2].prompt.images

    assert response.status_code == 200
    assert seen.id == fed_back.id


@pytest.mark.parametrize("url", [new_image_id(), f"http://dreamserve/v1/files/images/{new_image_id()}"])
async def test_a_picture_that_is_no_more_is_said_to_be_missing(url: str, running: Running) -> None:
    response = await ask_about(running, url)

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("image_not_found", "messages[0].content[1].image_url")


@pytest.mark.parametrize("url", ["http://example.com/cat.png", "https://example.com/v1/files/images/cat.png"])
async def test_other_links_are_not_followed(url: str, running: Running) -> None:
    response = await ask_about(running, url)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_image_url"


async def ask_about(app: Running, url: str) -> httpx.Response:
    """Ask what a picture shows."""
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return await app.client.post("/v1/interleaved", json={"messages": [{"role": "user", "content": content}]})
