"""The begin of a document, which may have to wait for its turn."""

import asyncio

from fastapi import Request

from server.api.streaming import client_left
from server.guard.caller import Caller
from server.interleave.document import DocumentRequest
from server.interleave.journal.base import StoreRequest
from server.interleave.running import RunningDocument
from server.interleave.text_to_image import TextToImageRequest
from server.observe.requests import CLIENT_LEFT
from server.schema.errors import APIError
from server.service import Service
from server.tasks import end


async def begin_document(
    service: Service,
    wanted: DocumentRequest | TextToImageRequest,
    caller: Caller,
    request: Request,
    store: StoreRequest | None = None,
) -> RunningDocument:
    """Begin a document when its turn has come, unless the caller leaves before.

    Args:
        service: makes it.
        wanted: what to make.
        caller: who wants it.
        request: of his; its body must have been read.
        store: see :meth:`Service.begin`, also for what else is raised.

    Raises:
        APIError: the caller has left: nobody will read it.
    """
    beginning = asyncio.create_task(service.begin(wanted, caller, store))
    leaving = asyncio.create_task(client_left(request))
    try:
        await asyncio.wait({beginning, leaving}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await give_up(beginning)
        raise
    finally:
        await end([leaving])
    if not beginning.done():
        await give_up(beginning)
        raise APIError(CLIENT_LEFT, "the caller has left")
    return beginning.result()


async def give_up(beginning: asyncio.Task[RunningDocument]) -> None:
    """Leave the line, or the document if it has begun in the same instant."""
    await end([beginning])
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().leave()
