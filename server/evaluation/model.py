"""The model under evaluation, behind the service's own HTTP surface: in this process, or wherever a server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from server.app import create_app
from server.availability import State
from server.backend import Backend, OpenBackend
from server.client.connection import RefusedError, UnreachableError, error_message, is_loopback
from server.evaluation.pixels import data_url, decoded
from server.evaluation.trial import Answer, ModelInput, Part
from server.schema.interleaved import FailedImagePart, ImagePart, InterleavedResponse, PendingImagePart, TextPart
from server.schema.models import ModelCard, ModelList
from server.service import Service
from server.settings import AuthSettings, Settings

MAX_TOKENS = 256  # the longest right answers have less than half as many
ANSWER_LIMIT_S = 600.0
POLL_S = 0.1
TRIES = 20  # of a request that a busy server sends away


class NotServedError(Exception):
    """The model cannot be served."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A running server.

    Attributes:
        url: of it.
        api_key: for servers that ask for one.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)


class EvaluatedModel:
    """Answers requests.

    Args:
        client: of the server.
        backend: of a server in this process.

    Attributes:
        backend: for what cannot be asked over HTTP; None of a server elsewhere.
    """

    def __init__(self, client: httpx.AsyncClient, backend: Backend | None = None) -> None:
        self._client = client
        self.backend = backend

    async def card(self) -> ModelCard:
        """What the server tells of its model.

        Raises:
            UnreachableError, RefusedError: see :meth:`answer`.
        """
        response = await self._send("GET", "/v1/models")
        return ModelList.model_validate_json(response.content).data[0]

    async def answer(self, request: ModelInput) -> Answer:
        """The answer to a request. A document that the server could not finish is what there is of it.

        Raises:
            UnreachableError: no connection, or it broke.
            RefusedError: an error response.
        """
        response = await self._send("POST", "/v1/interleaved", json=request_body(request))
        document = InterleavedResponse.model_validate_json(response.content)
        return Answer(await asyncio.to_thread(lambda: tuple(map(answer_part, document.parts))))

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A response that is no error. A server that asks to come back later is asked again then."""
        for _ in range(TRIES):
            try:
                response = await self._client.request(method, path, **options)
            except httpx.TransportError as error:
                raise UnreachableError(f"no answer from {self._client.base_url}: {error}") from error
            if not response.is_error:
                return response
            if "Retry-After" not in response.headers:
                break
            await asyncio.sleep(float(response.headers["Retry-After"]))
        raise RefusedError(error_message(response))


def request_body(request: ModelInput) -> dict[str, Any]:
    """A request as ``/v1/interleaved`` takes it."""
    return {
        "input": [
            {"type": "text", "text": piece}
            if isinstance(piece, str)
            else {"type": "image_url", "image_url": {"url": data_url(piece)}}
            for piece in request.prompt
        ],
        "seed": request.seed,
        "max_tokens": MAX_TOKENS,
        "images": {"max": request.max_pictures, "feedback": request.feedback},
        **({"temperature": 0.0} if request.greedy else {}),
    }


def answer_part(part: TextPart | ImagePart | FailedImagePart | PendingImagePart) -> Part:
    """A part of a document, its picture decoded."""
    match part:
        case TextPart(text=text):
            return text
        case ImagePart(image=image):
            return decoded(image.decoded())
        case _:
            return None


@asynccontextmanager
async def remote_model(server: RemoteServer) -> AsyncIterator[EvaluatedModel]:
    """The model of a running server."""
    headers = {} if server.api_key is None else {"Authorization": f"Bearer {server.api_key}"}
    local = is_loopback(server.url)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=ANSWER_LIMIT_S, trust_env=not local
    ) as client:
        yield EvaluatedModel(client)


@asynccontextmanager
async def served_model(settings: Settings, open_backend: OpenBackend | None = None) -> AsyncIterator[EvaluatedModel]:
    """The model of the settings, served in this process without a socket.

    Args:
        settings: of the server.
        open_backend: see :func:`~server.app.create_app`.

    Raises:
        NotServedError: it cannot be served. The log says why.
    """
    reached_from_here_alone = settings.model_copy(update={"auth": AuthSettings(enabled=False)})
    app = create_app(reached_from_here_alone, open_backend)
    service: Service = app.state.service
    async with app.router.lifespan_context(app):
        while service.state is State.LOADING:  # noqa: ASYNC110 - a state is no event
            await asyncio.sleep(POLL_S)
        if service.state is not State.READY:
            raise NotServedError(f"the model at {settings.model.path} cannot be served")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://in.process", timeout=None) as client:  # noqa: S113  # nosec B113
            yield EvaluatedModel(client, service.backend)
