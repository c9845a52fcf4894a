"""``dreamserve generate``: one request to a running server, shown as it is answered and kept."""

import os
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.console import Console

from server.client.answer import Answer
from server.client.connection import RefusedError, UnreachableError, image_data_url, stream_document
from server.client.terminal import TerminalView, printable
from server.schema.events import DocumentFailedEvent


class Exit(IntEnum):
    """How ``dreamserve generate`` ends."""

    OK = 0
    FAILED = 1
    """The document could not be finished; what there is of it was saved."""
    REFUSED = 2
    """The server refused the request."""
    UNREACHABLE = 3
    """There is no server, or the connection broke."""
    INTERRUPTED = 130
    """The user stopped it; what there was of the document was saved. The code that shells give it."""


def request_body(prompt: str, pictures: list[Path], options: dict[str, Any], images: dict[str, Any]) -> dict[str, Any]:
    """The body of a request. Options that are None are left to the server. Pictures stand before the text.

    Raises:
        OSError: a picture cannot be read.
    """
    body = {name: value for name, value in options.items() if value is not None}
    if given := {name: value for name, value in images.items() if value is not None}:
        body["images"] = given
    if not pictures:
        return {**body, "input": prompt}
    shown = [{"type": "input_image", "image_url": image_data_url(path)} for path in pictures]
    return {**body, "input": [*shown, {"type": "input_text", "text": prompt}]}


def generate(
    url: str,
    answer: Answer,
    body: dict[str, Any],
    out: Path,
    console: Console,
    errors: Console,
    api_key: str | None = None,
) -> Exit:
    """Send a request, show its document as it comes, and save it.

    Args:
        url: of the server.
        answer: takes what comes.
        body: of the request.
        out: folder for ``answer.html`` and the pictures.
        console: where the document is shown.
        errors: where it is said what went wrong.
        api_key: for servers that ask for one.
    """
    view = TerminalView(console, os.environ)
    outcome = Exit.FAILED
    try:
        for event in stream_document(url, body, api_key):
            answer.apply(event)
            view.show(event)
            if isinstance(event, DocumentFailedEvent):
                view.close()
                errors.print(f"the document failed: {printable(event.error.message)}", style="red", markup=False)
        outcome = Exit.OK if answer.finish_reason else Exit.FAILED
    except KeyboardInterrupt:
        outcome = Exit.INTERRUPTED
    except UnreachableError as error:
        outcome = Exit.UNREACHABLE
        view.close()
        errors.print(printable(str(error)), style="red", markup=False)
    except RefusedError as error:
        errors.print(printable(str(error)), style="red", markup=False)
        return Exit.REFUSED
    finally:
        view.close()
    if answer.texts or answer.pictures:
        console.print(f"\nsaved: {answer.save(out)}", style="dim", markup=False, highlight=False, soft_wrap=True)
    return outcome
