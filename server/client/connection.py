"""The HTTP side of the client: one request, a stream of typed events."""

import base64
import mimetypes
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from httpx_sse import connect_sse
from pydantic import TypeAdapter

from server.schema.events import EVENT_TYPES, InterleavedEvent

EVENT: TypeAdapter[InterleavedEvent] = TypeAdapter(InterleavedEvent)
TIMEOUT = httpx.Timeout(30.0, connect=5.0, read=120.0)  # the server is never silent for longer: it sends keep-alives


class UnreachableError(Exception):
    """There is no server, or it went away."""


class RefusedError(Exception):
    """The server refused the request; the message says why."""


def image_data_url(path: Path) -> str:
    """A picture file as a data URL. What kind of picture it is, if any, is for the server to say."""
    media_type = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def stream_document(url: str, body: dict[str, Any], api_key: str | None = None) -> Iterator[InterleavedEvent]:
    """Send a request and yield the events of its document, but for those of a newer server's kinds.

    Args:
        url: of the server.
        body: of the request, without ``stream``.
        api_key: for servers that ask for one.

    Raises:
        UnreachableError: no connection, or it broke.
        RefusedError: an error response.
    """
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        with (
            httpx.Client(headers=headers, timeout=TIMEOUT, trust_env=not is_loopback(url)) as client,
            connect_sse(client, "POST", f"{url.rstrip('/')}/v1/interleaved", json={**body, "stream": True}) as source,
        ):
            if source.response.is_error:
                source.response.read()
                raise RefusedError(error_message(source.response))
            for event in source.iter_sse():
                if event.event in EVENT_TYPES:
                    yield EVENT.validate_json(event.data)
    except httpx.ConnectError as error:
        raise UnreachableError(f"no server answers at {url} — start one with `dreamserve serve`") from error
    except httpx.TransportError as error:
        raise UnreachableError(f"the connection to {url} broke: {error}") from error


def is_loopback(url: str) -> bool:
    """Whether a URL is this machine's own: no proxy of the environment leads there."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def error_message(response: httpx.Response) -> str:
    """What an error response says."""
    try:
        message: str = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{response.request.url} answered {response.status_code}: is it a DreamServe?"
    return message
