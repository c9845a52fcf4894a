"""Pictures that are fetched: from allowed hosts on the public internet, and nothing is told of what went wrong."""

import asyncio
import gzip
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from server.guard.image_loading import ImageLoader
from server.guard.images import ImageInputError, ImageInputLimits
from server.guard.remote_images import RemoteImages, open_remote_images
from server.settings import RemoteImagesSettings
from tests.api.serving import in_memory
from tests.guard.picture_files import FILES, NOISE, encoded, png_that_claims
from tests.guard.tls_server import HOST, PUBLIC, LeadingHere, Names, TLSServer, answer, tls_server

URL = f"https://{HOST}/cat.png?signature=secret"
PICTURE = FILES["png"]
LIMITS = ImageInputLimits(max_bytes=10_000, max_pixels=10_000)


def remote_images(
    server: TLSServer, names: Names | None = None, network: LeadingHere | None = None, **settings: Any
) -> RemoteImages:
    """Fetches from a server as if it were on the internet."""
    settings = {"allowed_hosts": (HOST,), "timeout_s": 20.0, **settings}
    return RemoteImages(
        RemoteImagesSettings(**settings), names or Names([PUBLIC]), network or LeadingHere(server.port), server.trust
    )


async def load(remote: RemoteImages, url: str = URL, limits: ImageInputLimits = LIMITS) -> tuple[int, int]:
    """The size of a fetched picture."""
    loader = ImageLoader(threads=1, timeout_s=20, remote=remote)
    try:
        return (await loader.load(url, limits)).pixels.size
    finally:
        loader.close()


async def test_a_picture_is_fetched_with_nothing_but_what_its_url_says() -> None:
    async with tls_server(answer(PICTURE, "Content-Type: text/html", "Set-Cookie: a=b")) as server:
        remote = remote_images(server)
        sizes = {await load(remote), await load(remote)}

    assert sizes == {(24, 24)}
    assert server.names == [HOST, HOST]
    for request in server.requests:
        line, *headers = request.removesuffix("\r\n\r\n").split("\r\n")
        assert line == "GET /cat.png?signature=secret HTTP/1.1"
        assert f"Host: {HOST}" in headers
        assert {header.partition(":")[0] for header in headers} == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


async def test_the_connection_goes_to_the_address_that_was_checked_and_names_are_asked_for_once() -> None:
    async with tls_server(answer(PICTURE)) as server:
        names, network = Names([PUBLIC], ["127.0.0.1"]), LeadingHere(server.port)
        await load(remote_images(server, names, network))

    assert names.asked == [HOST]
    assert network.connected == [(PUBLIC, 443)]


async def test_a_name_that_changes_its_address_is_checked_again_with_the_next_picture() -> None:
    async with tls_server(answer(PICTURE)) as server:
        network = LeadingHere(server.port)
        remote = remote_images(server, Names([PUBLIC], ["169.254.169.254"]), network)
        await load(remote)
        with pytest.raises(ImageInputError):
            await load(remote)

    assert network.connected == [(PUBLIC, 443)]
    assert len(server.requests) == 1


async def test_of_several_addresses_the_first_is_taken_that_answers() -> None:
    async with tls_server(answer(PICTURE)) as server:
        network = LeadingHere(server.port, closed=["1.1.1.1"])
        assert await load(remote_images(server, Names(["1.1.1.1", PUBLIC]), network)) == (24, 24)

    assert network.connected == [("1.1.1.1", 443), (PUBLIC, 443)]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:169.254.169.254"], [PUBLIC, "192.168.0.1"]],
)
async def test_a_name_with_an_address_that_is_not_public_is_not_connected_to(addresses: Sequence[str]) -> None:
    async with tls_server(answer(PICTURE)) as server:
        network = LeadingHere(server.port)
        with pytest.raises(ImageInputError) as refused:
            await load(remote_images(server, Names(addresses), network))

    assert refused.value.code == "image_not_fetched"
    assert network.connected == []


async def for_ever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer without an end."""
    writer.write(answer(b""))
    while True:
        writer.write(b"x" * 1000)
        await writer.drain()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half of an answer, and then nothing."""
    writer.write(answer(PICTURE[:50], f"Content-Length: {len(PICTURE)}"))
    await writer.drain()
    await reader.read()  # until the caller leaves


FAILURES: dict[str, dict[str, Any]] = {
    "no such name": {"names": Names(socket.gaierror("unknown"))},
    "no address": {"names": Names([])},
    "a private address": {"names": Names(["10.0.0.1"])},
    "a closed port": {"closed": [PUBLIC]},
    "another's certificate": {"certificate_for": "other.example.com"},
    "not found": {"answer": answer(b"secret", status="404 Not Found")},
    "forbidden": {"answer": answer(b"secret", status="403 Forbidden")},
    "a redirect": {"answer": answer(b"", f"Location: https://{HOST}/secret", status="302 Found")},
    "compressed": {"answer": answer(gzip.compress(PICTURE), "Content-Encoding: gzip")},
    "too long": {"answer": answer(b"x" * 10_001)},
    "an answer without an end": {"answer": for_ever},
    "an answer that breaks off": {"answer": answer(PICTURE[:50], f"Content-Length: {len(PICTURE)}")},
    "an answer that stands still": {"answer": never, "timeout_s": 0.3},
    "no HTTP": {"answer": b"220 secret ESMTP\r\n"},
    "nothing": {"answer": b""},
    "no picture": {"answer": answer(b"root:secret:0:0")},
    "another kind of picture": {"answer": answer(encoded(NOISE, "TIFF")[:9000])},
    "a broken picture": {"answer": answer(PICTURE[:-40])},
    "too many pixels": {"answer": answer(png_that_claims(101, 100))},
}


@pytest.mark.parametrize("name", FAILURES)
async def test_all_failures_look_the_same(name: str) -> None:
    failure = dict(FAILURES[name])
    reply, certificate_for = failure.pop("answer", answer(PICTURE)), failure.pop("certificate_for", HOST)
    async with tls_server(reply, certificate_for) as server:
        network = LeadingHere(server.port, failure.pop("closed", ()))
        with pytest.raises(ImageInputError) as refused:
            await load(remote_images(server, failure.pop("names", None), network, **failure))
        assert len(server.requests) <= 1

    assert refused.value.code == "image_not_fetched"
    assert str(refused.value) == (
        "could not be fetched as a picture that is read here: PNG, JPEG, WebP and GIF, within the limits of this server"
    )


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/cat.png",
        f"ftp://{HOST}/cat.png",
        f"https://{HOST}:8443/cat.png",
        f"https://{HOST}./cat.png",
        f"https://www.{HOST}/cat.png",
        f"https://{HOST}.evil.com/cat.png",
        f"https://user@{HOST}/cat.png",
        f"https://{HOST}@evil.com/cat.png",
        f"https://evil.com/{HOST}",
        f"https://evil.com\\@{HOST}/cat.png",
        f"https://evil.com#@{HOST}/cat.png",
        "https://93.184.215.14/cat.png",
        "https://1572395022/cat.png",
        "https://[::1]/cat.png",
        "https:///cat.png",
        "https://",
        f"//{HOST}/cat.png",
        f"{HOST}/cat.png",
        "file:///etc/passwd",
        "",
        f"https://{HOST}/" + "x" * 2048,
        f"https://{HOST}/\r\nX-Injected: yes",
        f"https://{HOST}:99999/",
    ],
)
async def test_what_is_not_allowed_is_not_even_looked_up(url: str) -> None:
    async with tls_server(answer(PICTURE)) as server:
        names, network = Names([PUBLIC]), LeadingHere(server.port)
        with pytest.raises(ImageInputError) as refused:
            await load(remote_images(server, names, network), url)

    assert refused.value.code in ("unsupported_image_url", "invalid_image_url")
    assert (names.asked, network.connected) == ([], [])


@pytest.mark.parametrize(
    ("rule", "host", "allowed"),
    [
        ("example.com", "example.com", True),
        ("example.com", "EXAMPLE.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("example.com:8443", "example.com:8443", True),
        ("example.com:8443", "example.com", False),
        ("xn--bcher-kva.example", "bücher.example", True),
    ],
)
async def test_a_host_is_allowed_by_its_name_or_by_what_it_is_below(rule: str, host: str, allowed: bool) -> None:
    async with tls_server(answer(PICTURE), certificate_for="*.invalid") as server:
        names = Names(socket.gaierror("unknown"))
        with pytest.raises(ImageInputError) as refused:
            await load(remote_images(server, names, allowed_hosts=(rule,)), f"https://{host}/cat.png")

    assert refused.value.code == ("image_not_fetched" if allowed else "unsupported_image_url")
    assert bool(names.asked) == allowed


@pytest.mark.parametrize("host", ["*", "https://example.com", "example.com/", "Example.com", "a b", "*.*.com", "[::1]"])
def test_a_host_that_is_none_is_an_error_in_the_settings(host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        RemoteImagesSettings(allowed_hosts=(host,))


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with tls_server(answer(PICTURE)) as server:
        assert await load(remote_images(server)) == (24, 24)


async def test_only_so_many_are_fetched_at_one_time() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await may_end.wait()
        writer.write(answer(PICTURE))
        await writer.drain()

    async with tls_server(wait) as server:
        names = Names([PUBLIC])
        remote = remote_images(server, names, concurrency=1)
        first, second = asyncio.create_task(load(remote)), asyncio.create_task(load(remote))
        await begun.wait()
        assert len(names.asked) == 1
        may_end.set()
        assert set(await asyncio.gather(first, second)) == {(24, 24)}


async def test_whoever_leaves_frees_the_connection_and_the_place() -> None:
    async with tls_server(never) as server:
        remote = remote_images(server, concurrency=1)
        loading = asyncio.create_task(load(remote))
        while not server.requests:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.001)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await server.ended.wait()

        server.answer = answer(PICTURE)
        assert await load(remote) == (24, 24)


async def test_a_name_that_is_not_found_in_time_is_given_up() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    remote = RemoteImages(RemoteImagesSettings(allowed_hosts=(HOST,), timeout_s=0.05), resolve)
    with pytest.raises(ImageInputError) as refused:
        await load(remote)
    assert refused.value.code == "image_not_fetched"


async def test_this_machine_is_not_connected_to_by_its_name() -> None:
    async with tls_server(answer(PICTURE), certificate_for="localhost") as server:
        settings = RemoteImagesSettings(allowed_hosts=(f"localhost:{server.port}",))
        async with open_remote_images(settings) as remote:
            assert remote is not None
            with pytest.raises(ImageInputError) as refused:
                await load(remote, f"https://localhost:{server.port}/cat.png")

    assert refused.value.code == "image_not_fetched"
    assert (server.requests, server.names) == ([], [])


@pytest.mark.parametrize("reply", [answer(PICTURE), answer(b"", status="404 Not Found"), b"220 no HTTP\r\n"])
async def test_no_log_holds_the_path_of_a_url(reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with tls_server(reply) as server:
        with caplog.at_level(logging.DEBUG), suppress(ImageInputError):
            await load(remote_images(server))

    assert len(server.requests) == 1
    assert "secret" not in caplog.text
    assert "cat.png" not in caplog.text


async def test_without_allowed_hosts_there_is_nothing_that_fetches() -> None:
    async with open_remote_images(RemoteImagesSettings()) as remote:
        assert remote is None


async def test_a_request_whose_picture_cannot_be_fetched_is_refused_by_the_name_of_the_field() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://localhost:1/cat.png"}}
    async with in_memory(remote_images={"allowed_hosts": ["localhost:1"]}) as app:
        await app.ready()
        response = await app.client.post("/v1/interleaved", json={"input": [picture]})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("image_not_fetched", "input[0].image_url")
    assert "localhost" not in error["message"]
