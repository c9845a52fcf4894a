"""Pictures fetched from elsewhere, for callers who give a URL: what a server does for strangers, and so does warily.

A caller chooses the path, and one of the hosts that the settings allow; nothing else. The host's name is resolved once
for each fetch, every address must be on the public internet, and the connection goes to one of just those addresses:
whoever owns the name cannot lead it elsewhere in between (DNS rebinding). TLS is for the name. There are no
redirects, cookies, proxies, credentials and compressions, because httpcore knows none unless it is told.

What went wrong is told to the log, not to the caller: one error stands for all, so that nobody learns what is where.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpcore
import httpx

from server.guard.images import READABLE, ImageInputError
from server.guard.public_address import is_public
from server.observe.metrics import REMOTE_IMAGES
from server.settings import RemoteImagesSettings

LONGEST_URL = 2048
HTTPS_PORT = 443
HEADERS = (
    ("Accept", "image/png, image/jpeg, image/webp, image/gif"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", f"DreamServe/{version('dreamserve')}"),
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to the host's addresses. Raises OSError if there are none."""

logger = logging.getLogger(__name__)


class RemoteImageError(ImageInputError):
    """A picture was not fetched, or is none. Says the same whatever the reason."""

    def __init__(self) -> None:
        message = f"could not be fetched as a picture that is read here: {READABLE}, within the limits of this server"
        super().__init__("image_not_fetched", message)


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to a name by addresses that were checked, all of them, at that moment.

    Args:
        resolve: finds the addresses of a name.
        network: connects to addresses.
    """

    def __init__(self, resolve: Resolve, network: httpcore.AsyncNetworkBackend) -> None:
        self._resolve = resolve
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the name's addresses that takes one.

        Raises:
            httpcore.ConnectError: the name has an address that is not public, or none, or no address takes connections.
        """
        addresses = await self._resolve(host, port)
        if not all(map(is_public, addresses)):
            raise httpcore.ConnectError("the name has an address that is not public")
        refused: httpcore.NetworkError = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                refused = error
        raise refused


class RemoteImages:
    """Fetches pictures.

    Args:
        settings: from where, and how long and how many at a time.
        resolve: finds the addresses of a name.
        network: connects to addresses. By default over TCP.
        tls: whose certificates are trusted. By default those of the authorities that browsers trust.
    """

    def __init__(
        self,
        settings: RemoteImagesSettings,
        resolve: Resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = settings.allowed_hosts
        self._timeout_s = settings.timeout_s
        self._network = PublicNetwork(resolve, network or httpcore.AnyIOBackend())
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._places = asyncio.Semaphore(settings.concurrency)

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """What is at a URL: it need not be a picture.

        Args:
            url: https, of an allowed host.
            max_bytes: that it may have.

        Raises:
            RemoteImageError: it could not be had.
            ImageInputError: it is not fetched from there at all.
        """
        target = allowed_url(url, self._allowed)
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                content = await self._get(target, max_bytes)
        except (OSError, ValueError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            # Without the path and the query, which may hold a signature.
            logger.info("no picture from %s: %r", target.host.decode(), error)
            REMOTE_IMAGES.labels("failed").inc()
            raise RemoteImageError from None
        REMOTE_IMAGES.labels("fetched").inc()
        return content

    async def _get(self, url: httpcore.URL, max_bytes: int) -> bytes:
        """The body of a plain answer of status 200.

        Raises:
            ValueError: it is another answer, or too long.
        """
        connection = httpcore.AsyncHTTPConnection(url.origin, ssl_context=self._tls, network_backend=self._network)
        async with connection, connection.stream("GET", url, headers=HEADERS) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            if any(name.lower() == b"content-encoding" for name, _ in response.headers):
                raise ValueError("the answer is compressed")
            return await read_at_most(max_bytes, response.aiter_stream())


async def read_at_most(max_bytes: int, chunks: AsyncIterator[bytes]) -> bytes:
    """The chunks as one.

    Raises:
        ValueError: they have more bytes.
    """
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > max_bytes:
            raise ValueError(f"more than {max_bytes} bytes")
    return bytes(content)


def allowed_url(url: str, allowed_hosts: Iterable[str]) -> httpcore.URL:
    """A URL in the parts by which it will be fetched, so that nothing else is fetched than what was checked.

    Raises:
        ImageInputError: pictures are not fetched from there.
    """
    try:
        if len(url) > LONGEST_URL:
            raise httpx.InvalidURL("too long")
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ImageInputError("invalid_image_url", "is no URL") from error
    host, port = parsed.raw_host.decode().lower(), parsed.port or HTTPS_PORT
    if parsed.scheme != "https" or parsed.userinfo or not any(allows(rule, host, port) for rule in allowed_hosts):
        message = (
            "must be a data URL, a picture of this server, or an https URL of a host that it fetches pictures from"
        )
        raise ImageInputError("unsupported_image_url", message)
    return httpcore.URL(scheme=b"https", host=parsed.raw_host, port=port, target=parsed.raw_path)


def allows(rule: str, host: str, port: int) -> bool:
    """Whether a setting such as ``example.com``, ``*.example.com`` or ``example.com:8443`` allows a host and a port."""
    name, _, allowed_port = rule.partition(":")
    matches = host.endswith(name[1:]) and host != name[1:] if name.startswith("*.") else host == name
    return matches and port == int(allowed_port or HTTPS_PORT)


@asynccontextmanager
async def open_remote_images(settings: RemoteImagesSettings) -> AsyncIterator[RemoteImages | None]:
    """What fetches pictures; None if the settings allow no host."""
    if not settings.allowed_hosts:
        yield None
        return
    # Of their own: looking up a name cannot be interrupted, and other work should not wait for it.
    threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="remote-image-names")

    async def resolve(host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

        return await asyncio.get_running_loop().run_in_executor(threads, look_up)

    try:
        yield RemoteImages(settings, resolve)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
