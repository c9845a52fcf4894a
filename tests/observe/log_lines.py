"""What is logged while a test does something."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written.

    Args:
        formatter: makes the lines.
        loggers: prefix of the names of those whose lines are kept.
    """

    def __init__(self, formatter: logging.Formatter, loggers: str = "") -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter)
        self.lines: list[str] = []
        self._loggers = loggers

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(self._loggers):
            self.lines.append(self.format(record))


@contextmanager
def logged(formatter: logging.Formatter, loggers: str = "") -> Iterator[list[str]]:
    """All lines of these loggers, of every level."""
    handler, root = Lines(formatter, loggers), logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
