"""Logging: one line a record, for people or as JSON, with the ids of the request and the trace that it belongs to.

Prompts, answers and pictures are in no line, unless ``log.contents`` asks for them: whoever logs names things by their
ids, and says of errors of a request what is wrong with it, not what it said.
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

from server.observe.tracing import trace_id
from server.settings import LogFormat

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""Of the request for which something is done, in the server and in the workers that draw for it."""


class TextFormatter(logging.Formatter):
    """``12:30:01 INFO    server.service [req_… 4bf92f…] ready``; the second id is the trace's, if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s [%(ids)s] %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.ids = " ".join(filter(None, (request_id.get(), trace_id())))
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))


def printable(text: str) -> str:
    """The text on one line, and nothing in it that a terminal obeys: paths of requests say what their callers like."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": request_id.get(),
            "message": record.getMessage(),
        }
        if (trace := trace_id()) is not None:
            line["trace_id"] = trace
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str, format: LogFormat) -> None:
    """Send all records of this process to stderr in one format. Requests are logged by us, not by uvicorn."""
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    # One line for each request that a client sends, and for each event of a stream.
    for name in ("httpx", "sse_starlette"):
        logging.getLogger(name).setLevel("WARNING")
