"""Who asks is found out here, before anything of a request is read but its headers."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.guard.caller import ANONYMOUS, Caller
from server.guard.key_ring import KeyRing

HEALTH = ("/health", "/health/started", "/health/live", "/health/ready")
DESCRIPTION = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
OPEN = frozenset({"/", *HEALTH, *DESCRIPTION})
OPEN_BELOW = ("/playground/", "/v1/files/images/")
"""What needs no key: health checks; the description, which tells what the README tells; the playground's own files,
where the key is then asked for; pictures, whose addresses cannot be guessed and stand in pages that send no key. All
else does, also what is not there. Metrics do: they show what the server has to do."""


class AuthenticationError(Exception):
    """A request without a key, or with one that is none.

    Attributes:
        challenge: for ``WWW-Authenticate``, see RFC 6750.
    """

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class Authentication:
    """Middleware that asks for a key, and tells the rest of the server whose it is: in ``request.state.caller``.

    Like OpenAI's and vLLM's servers it takes ``Authorization: Bearer KEY`` and nothing else.

    Args:
        app: what answers.
        keys: that are in force; without, everybody is :data:`~server.guard.caller.ANONYMOUS`.
        refusal: the response to a request without a key that is in force.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, refusal: Callable[[AuthenticationError], Response]) -> None:
        self._app = app
        self._keys = keys
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = self._caller(scope)
        except AuthenticationError as error:
            await self._refusal(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        """Who asks.

        Raises:
            AuthenticationError: he does not say, and must, or is not who he says.
        """
        if self._keys is None or not needs_key(route_path(scope)):
            return ANONYMOUS
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise AuthenticationError("no API key: send one as `Authorization: Bearer KEY`", "Bearer")
        caller = self._keys.caller_of(key.strip().encode("latin-1"))  # which is how headers are decoded
        if caller is None:
            raise AuthenticationError("this API key is not valid", 'Bearer error="invalid_token"')
        return caller


def needs_key(path: str) -> bool:
    """Whether only callers with a key get an answer at a path."""
    return path not in OPEN and not path.startswith(OPEN_BELOW)


def route_path(scope: Scope) -> str:
    """The path by which routes are found: that of the request, below the root path that a proxy may have added."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
