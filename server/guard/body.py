"""Limits on request bodies, held whether or not the caller tells their length."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Middleware that ends requests whose body is too long with status 413, or comes too slowly with status 408.

    Args:
        app: what reads the body.
        max_bytes: of a body.
        timeout_s: from the headers to the last byte of the body. However long the answer takes is not limited.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._timeout_s

        async def receive_limited() -> Message:
            nonlocal read, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                headers = {"Connection": "close"}
                raise HTTPException(408, f"the body took more than {self._timeout_s:g} s", headers) from None
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise HTTPException(413, f"the body has more than {self._max_bytes} bytes")
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_limited, send)
