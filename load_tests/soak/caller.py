"""One caller: sends requests, reads answers to their ends or not, and notes what was not as it must be."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

LAST_EVENTS = frozenset(
    {
        "document.completed",
        "document.failed",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "image_generation.completed",
        "error",
    }
)
DONE = "[DONE]"
FAILED_EVENTS = frozenset({"document.failed", "response.failed", "error"})
OVERLOADED = (429, 503)
"""What a server that has too much to do may answer, if it says when to come again."""
GONE = frozenset({"document_not_found", "image_not_found", "previous_response_not_found"})
"""Codes of errors about what was stored."""


class RefusedError(Exception):
    """The service had too much to do, and said so as it should."""


class FaultError(Exception):
    """The service did what it must not do."""


class GoneError(FaultError):
    """The service does not have what it made for this caller: it must, unless he took longer than it is kept."""


@dataclass
class Caller:
    """A caller with a mind of its own.

    Attributes:
        client: to ask the service with.
        dice: decide all that the caller does.
        status: of the latest response; 0 before the first.
    """

    client: httpx.AsyncClient
    dice: random.Random
    status: int = 0

    async def ask(self, method: str, path: str, body: Any = None, expected: tuple[int, ...] = (200,)) -> httpx.Response:
        """A whole answer.

        Raises:
            RefusedError: the service is overloaded.
            GoneError: it does not have what is asked for.
            FaultError: the status is another one that is not expected.
        """
        response = await self.client.request(method, path, json=body)
        self._require(response, response.text, expected)
        return response

    async def document(self, path: str, body: Any) -> dict[str, Any]:
        """The JSON of a whole answer."""
        answer: dict[str, Any] = (await self.ask("POST", path, body)).json()
        return answer

    async def events(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """The events of a stream, which must end with a last one. Closing them hangs up."""
        async with aconnect_sse(self.client, method, path, json=body, headers=headers or {}) as source:
            response = source.response
            self._require(response, "" if response.is_success else (await response.aread()).decode(), (200,))
            last = None
            async with aclosing(source.aiter_sse()) as received:
                async for event in received:
                    if event.data:  # to httpx_sse a comment after an event with an id is an event too
                        last = event
                        yield event
        if last is None or not is_last(last):
            raise FaultError(f"{method} {path}: the stream broke off after {last!r}")

    async def read(self, path: str, body: Any) -> list[ServerSentEvent]:
        """A whole stream, of an answer that does not fail."""
        received = [event async for event in self.events("POST", path, {**body, "stream": True})]
        if failed := next((event for event in received if event.event in FAILED_EVENTS), None):
            raise FaultError(f"{path}: the answer failed: {failed.data[:500]}")
        return received

    async def leave(self, path: str, body: Any, after_s: float) -> None:
        """Hang up in the middle of an answer, whether it has begun or not."""
        try:
            async with asyncio.timeout(after_s):
                if body.get("stream"):
                    async for _ in self.events("POST", path, body):
                        pass
                else:
                    await self.ask("POST", path, body)
        except TimeoutError:
            pass

    async def dawdle(self, path: str, body: Any, limit_s: float) -> None:
        """Read a stream through a window of a few bytes, slowly; then hang up."""
        url = self.client.base_url
        sending = socket.socket()
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sending.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sending, (url.host, url.port or 80))
        reader, writer = await asyncio.open_connection(sock=sending, limit=1024)
        content = json.dumps({**body, "stream": True}).encode()
        authorization = self.client.headers.get("authorization")
        headers = [f"POST {path} HTTP/1.1", f"Host: {url.netloc.decode()}", f"Content-Length: {len(content)}"]
        headers += [f"Authorization: {authorization}"] if authorization else []
        try:
            writer.write("\r\n".join([*headers, "", ""]).encode() + content)
            async with asyncio.timeout(limit_s):
                while await reader.read(256):  # noqa: ASYNC110 - there is nothing to wait for but time
                    await asyncio.sleep(self.dice.uniform(0.05, 0.3))
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def _require(self, response: httpx.Response, text: str, expected: tuple[int, ...]) -> None:
        self.status = response.status_code
        if response.status_code in expected:
            return
        what = f"{response.request.method} {response.request.url.path}: {response.status_code}: {text[:500]}"
        if response.status_code in OVERLOADED and "retry-after" in response.headers:
            raise RefusedError(what)
        if any(code in text for code in GONE) or (response.status_code == 404 and not text):
            raise GoneError(what)
        raise FaultError(what)


def is_last(event: ServerSentEvent) -> bool:
    """Whether an event is one that ends a stream."""
    return event.data == DONE or event.event in LAST_EVENTS
