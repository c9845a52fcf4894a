"""An answer in the terminal: text as it comes, a bar for the picture that is drawn, then the picture."""

import unicodedata
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from server.client.inline_images import show_image
from server.schema.events import (
    ImageCompletedEvent,
    ImageFailedEvent,
    ImagePreviewEvent,
    ImageProgressEvent,
    ImageQueuedEvent,
    StreamEvent,
    StreamPartEvent,
    TextDeltaEvent,
)


def printable(text: str) -> str:
    """Text from elsewhere without what a terminal would obey: control characters, but for line breaks and tabs."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


class TerminalView:
    """Shows the parts of a document in their order. What comes for a later part waits until a picture is finished.

    Args:
        console: where.
        environment: tells what terminal it is.
    """

    def __init__(self, console: Console, environment: Mapping[str, str]) -> None:
        self._console = console
        self._environment = environment
        self._later: list[StreamPartEvent] = []
        self._drawing: int | None = None
        self._pictures = 0
        self._in_line = False
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def show(self, event: StreamEvent) -> None:
        """Show what one event tells, now or in its turn."""
        if not isinstance(event, StreamPartEvent):
            return
        if self._drawing not in (None, event.part):
            self._later.append(event)
            return
        self._show(event)
        if self._drawing is None:
            self._show_later()

    def close(self) -> None:
        """Show what still waited for its turn, and leave the terminal on a line of its own, however it all ended."""
        self._end_bar()
        while self._later:
            self._show_later()
            self._end_bar()
        self._end_line()

    def _show_later(self) -> None:
        waiting, self._later = sorted(self._later, key=lambda late: late.part), []
        for late in waiting:
            self.show(late)

    def _show(self, event: StreamPartEvent) -> None:
        match event:
            case TextDeltaEvent(text=text):
                self._write(text)
            case ImageQueuedEvent(part=part):
                self._begin_bar(part)
            case ImageProgressEvent(step=step, steps=steps):
                self._advance(step, steps)
            case ImagePreviewEvent():
                pass  # the bar moves; a picture that replaced itself would need a terminal of one kind
            case ImageCompletedEvent(image=image):
                self._end_bar()
                shown = show_image(self._console, image.decoded(), self._environment)
                if not shown:
                    self._console.print(f"[dim]\\[picture {self._pictures}: {image.width}x{image.height}][/dim]")
            case ImageFailedEvent(error=error):
                self._end_bar()
                self._console.print(f"[red]\\[picture {self._pictures} failed:[/red]", end=" ")
                self._console.print(f"{printable(error.message)}]", style="red", markup=False, highlight=False)

    def _write(self, text: str) -> None:
        text = printable(text)
        if not self._in_line:
            text = text.lstrip()
        if text:
            self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
            self._in_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._in_line:
            self._console.print()
            self._in_line = False

    def _begin_bar(self, part: int) -> None:
        self._end_line()
        self._drawing = part
        self._pictures += 1
        self._progress = Progress(
            TextColumn("[cyan]{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._bar = self._progress.add_task(f"picture {self._pictures}", total=None)

    def _advance(self, step: int, steps: int) -> None:
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=step, total=steps)

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._bar = self._drawing = None
