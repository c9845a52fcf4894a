"""How far an evaluation is: a bar in a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_S = 10.0  # between two lines of a log


@contextmanager
def stage(console: Console, title: str, of: int) -> Iterator[Callable[[], None]]:
    """A stage of so many steps. Yields what is called after each."""
    if not console.is_terminal:
        yield logged(console, title, of)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=of)
        yield lambda: progress.advance(task)


def logged(console: Console, title: str, of: int) -> Callable[[], None]:
    """Prints a line now and then, and one at the end."""
    begin = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if done == of or now - said >= LINE_S:
            said = now
            console.print(f"{title}: {done} of {of} after {now - begin:.0f} s", highlight=False)

    return advance
