"""Log lines: of one request they share its id, and none holds what was said."""

import json
import logging

import pytest

from server.observe.logging import JSONFormatter, TextFormatter
from tests.api.serving import in_memory, scripted_engine
from tests.scripted import EOS


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("server"):
            self.lines.append(self.format(record))


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
async def test_the_lines_of_a_request_have_its_id_and_not_its_contents(formatter: logging.Formatter) -> None:
    handler, root = Lines(formatter), logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        async with in_memory(scripted_engine(["my answer", EOS])) as app:
            await app.ready()
            headers = {"X-Request-Id": "the-request"}
            await app.client.post("/v1/interleaved", json={"input": "my question"}, headers=headers)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)

    about = [line for line in handler.lines if "doc_" in line or "POST" in line]
    assert len(about) == 2
    assert all("the-request" in line for line in about)
    assert not any("my question" in line or "my answer" in line for line in handler.lines)


def test_a_json_line_is_one_line_even_with_a_traceback() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "failed: %s", ("x\ny",), (type(error), error, None))

    line = JSONFormatter().format(record)

    assert "\n" not in line
    assert json.loads(line)["message"] == "failed: x\ny"
    assert "ValueError" in json.loads(line)["exception"]
