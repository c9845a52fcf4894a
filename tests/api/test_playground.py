"""How the page and its files are served."""

import re
from pathlib import Path

import pytest

from server.api.playground import WEB
from tests.api.serving import Running, in_memory

SOURCES = sorted(path for path in WEB.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"})
REFERENCES = r"""(?:href|src)="([^"#][^"]*)"|url\("([^"]+)"\)|from "([^"]+)\""""
NAMESPACES = "http://www.w3.org/"


async def test_the_page_is_at_the_root_with_nothing_allowed_but_its_own(running: Running) -> None:
    response = await running.client.get("/")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"} <= set(policy)
    assert "unsafe" not in response.headers["content-security-policy"]


async def test_whatever_the_page_refers_to_is_there(running: Running) -> None:
    for source in SOURCES:
        base = "/" if source.name == "index.html" else f"/playground/{source.relative_to(WEB)}"
        for found in re.findall(REFERENCES, source.read_text()):
            reference = "".join(found)
            address = running.client.base_url.join(base).join(reference)
            response = await running.client.get(address)
            assert response.status_code == 200, f"{source.name} refers to {reference}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_nothing_refers_to_another_site(source: Path) -> None:
    elsewhere = [found for found in re.findall(r"https?://\S+", source.read_text()) if not found.startswith(NAMESPACES)]

    assert elsewhere == []


async def test_a_browser_that_has_a_file_is_not_sent_it_again(running: Running) -> None:
    for path in ("/", "/playground/js/main.js", "/playground/fonts/newsreader.woff2"):
        first = await running.client.get(path)
        again = await running.client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        changed = await running.client.get(path, headers={"If-None-Match": '"other"'})

        assert first.headers["cache-control"] == "no-cache"
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert changed.status_code == 200


async def test_the_head_of_the_page_can_be_asked_for(running: Running) -> None:
    assert (await running.client.head("/")).status_code == 200


@pytest.mark.parametrize("path", ["/playground/none.js", "/playground/index.html", "/playground/../settings.py"])
async def test_there_are_no_other_files(running: Running, path: str) -> None:
    response = await running.client.get(path)

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/playground", "/playground/"])
async def test_who_guesses_the_address_is_led_to_the_page(running: Running, path: str) -> None:
    response = await running.client.get(path, follow_redirects=True)

    assert response.status_code == 200
    assert response.url.path == "/"


async def test_it_can_be_switched_off() -> None:
    async with in_memory(server={"playground": False}) as app:
        await app.ready()

        assert (await app.client.get("/")).status_code == 404
        assert (await app.client.get("/playground/js/main.js")).status_code == 404


async def test_it_is_no_part_of_the_described_interface(running: Running) -> None:
    paths = (await running.client.get("/openapi.json")).json()["paths"]

    assert not [path for path in paths if path == "/" or path.startswith("/playground")]
