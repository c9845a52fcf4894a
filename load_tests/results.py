"""What a benchmark found: printed as it comes, and written for the report and its plots with ``--json FILE``.

A benchmark makes one :class:`Results`, tells it everything through its methods, and writes it at the end::

    results = Results("text")
    results.describe(torch.device("cpu"), "2 threads", "5 rounds by turns")
    results.table("Tokens a second", ("concurrency", "ours", "theirs"), [(1, 80.2, 81.0)])
    results.plot("Throughput", "concurrency", "tokens/s", [Series("ours", (1, 8), (80.2, 390.0))])
    results.at_least("text_throughput_1", 0.99, 0.98)
    results.write(arguments.json)
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter

from load_tests import bars
from load_tests.conditions import print_conditions

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class Goal:
    """A number and what it should be.

    Attributes:
        name: as it is printed.
        value: measured.
        goal: that ``value`` is held against.
        bound: on which side of ``goal`` it should be.
        met: whether it is.
    """

    name: str
    value: float
    goal: float
    bound: Literal["at least", "at most"]
    met: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers; units are in the names of the columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """As Markdown whose columns line up, so that it reads well on a terminal, too."""
        lines = [self.columns, *(tuple(map(_written, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([padded[0], rule, *padded[1:]])


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a plot."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of some series.

    Attributes:
        title: also of its file.
        x_label: with its unit.
        y_label: with its unit.
        series: lines.
        log_x: whether the axis is logarithmic.
        log_y: whether the axis is.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass
class Results:
    """All that a benchmark found.

    Attributes:
        benchmark: its name: ``python -m load_tests.NAME``.
        conditions: what the numbers depend on.
        date: on which they were measured, in UTC.
        goals: in the order in which they were told, as are the rest.
        unavailable: why the benchmark cannot run here, if it cannot.
    """

    benchmark: str
    conditions: str = ""
    date: str = ""
    goals: list[Goal] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    unavailable: str | None = None

    def describe(self, device: torch.device, threads: str, *more: str) -> None:
        """Print the conditions. See :func:`~load_tests.conditions.print_conditions`."""
        self.conditions = print_conditions(device, threads, *more)
        self.date = datetime.now(UTC).date().isoformat()

    def at_least(self, name: str, value: float, goal: float) -> None:
        """A goal that is met from ``goal`` upwards."""
        self.goals.append(Goal(name, value, goal, "at least", bars.at_least(name, value, goal)))

    def at_most(self, name: str, value: float, goal: float) -> None:
        """A goal that is met up to ``goal``."""
        self.goals.append(Goal(name, value, goal, "at most", bars.at_most(name, value, goal)))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Print a table and keep it."""
        table = Table(title, tuple(columns), tuple(map(tuple, rows)))
        self.tables.append(table)
        print(f"\n{title}\n\n{table.markdown()}\n", flush=True)

    def plot(
        self,
        title: str,
        x_label: str,
        y_label: str,
        series: Iterable[Series],
        *,
        log_x: bool = False,
        log_y: bool = False,
    ) -> None:
        """Keep what the report draws."""
        self.plots.append(Plot(title, x_label, y_label, tuple(series), log_x, log_y))

    def cannot_run(self, reason: str) -> None:
        """The benchmark cannot run here, and says so instead of numbers."""
        self.unavailable = reason
        print(f"cannot run: {reason}", flush=True)

    def write(self, path: Path | None) -> None:
        """As JSON, if there is a path."""
        if path is not None:
            path.write_bytes(ADAPTER.dump_json(self, indent=1))

    @staticmethod
    def read(path: Path) -> "Results":
        """What a benchmark has written.

        Raises:
            OSError: there is no such file.
            pydantic.ValidationError: it is not from a benchmark.
        """
        return ADAPTER.validate_json(path.read_bytes())


ADAPTER: TypeAdapter[Results] = TypeAdapter(Results)


def arguments_of(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """The command line that all benchmarks have: ``--quick`` and ``--json FILE``, to which one may add its own."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{benchmark}", description=description)
    parser.add_argument("--quick", action="store_true", help="a minute or two, for numbers that mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write what was found")
    return parser


def _written(cell: Cell) -> str:
    """A number with three digits that count, or more where they stand before the point."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
