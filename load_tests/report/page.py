"""The page: what every benchmark found, its goals, and what is to be said of those that are missed."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from load_tests.results import Goal, Results, Table

ROOT = Path(__file__).parents[1]
NOTES = "NOTES.md"
"""Beside a benchmark: paragraphs that a new run must not lose, such as what bounds a goal that is missed."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One benchmark on the page.

    Attributes:
        benchmark: its name.
        results: what it found, now or earlier; None if nothing ever did.
        plots: files beside the page.
        trouble: why there is nothing new, if so.
        failed: whether that is a fault.
    """

    benchmark: str
    results: Results | None
    plots: Sequence[Path]
    trouble: str | None = None
    failed: bool = False

    @property
    def goals(self) -> Sequence[Goal]:
        """Those that were measured."""
        return self.results.goals if self.results else ()


def page(chapters: Sequence[Chapter], machine: Mapping[str, str], command: str) -> str:
    """The page, in Markdown.

    Args:
        chapters: in their order.
        machine: that the last run was made on.
        command: that made it.
    """
    goals = [(chapter.benchmark, goal) for chapter in chapters for goal in chapter.goals]
    missed = sum(not goal.met for _, goal in goals)
    parts = [
        "# What was measured",
        f"Written by `{command}`. {len(goals)} goals, {missed} of them missed. A chapter that says so is of an earlier "
        "run, on the device that its conditions name. All ratios are measured in one run, by turns.",
        Table("", ("the last run", ""), tuple(machine.items())).markdown(),
        "## Goals",
        goals_table(goals),
        *(part for chapter in chapters for part in written(chapter)),
    ]
    return "\n\n".join(parts) + "\n"


def goals_table(goals: Sequence[tuple[str, Goal]]) -> str:
    """All goals, the missed ones in bold."""
    rows = [
        (
            benchmark,
            f"`{goal.name}`",
            f"{goal.value:.3f}",
            f"{goal.bound} {goal.goal:g}",
            "met" if goal.met else "**missed**",
        )
        for benchmark, goal in goals
    ]
    return Table("", ("benchmark", "what", "measured", "goal", ""), tuple(rows)).markdown()


def written(chapter: Chapter) -> list[str]:
    """The parts of a chapter."""
    title, about = described(chapter.benchmark)
    parts = [f"## {chapter.benchmark}: {title}", *about]
    if chapter.trouble:
        parts.append(f"**{chapter.trouble}**")
    if chapter.results:
        parts.append(f"Conditions ({chapter.results.date}): {chapter.results.conditions}.")
        parts += [part for table in chapter.results.tables for part in (f"**{table.title}**", table.markdown())]
        parts += [f"![{plot.stem}](results/{plot.name})" for plot in chapter.plots]
        if chapter.results.goals:
            parts.append(goals_table([(chapter.benchmark, goal) for goal in chapter.results.goals]))
    notes = ROOT / chapter.benchmark / NOTES
    if notes.exists():
        parts.append(notes.read_text().strip())
    return parts


def described(benchmark: str) -> tuple[str, list[str]]:
    """What a benchmark says of itself: the end of its docstring's first line, and the paragraphs after that."""
    source = (ROOT / benchmark / "__main__.py").read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    first, *others = plain(docstring).split("\n\n")
    return first.partition(": ")[2].replace("\n", " ").rstrip("."), others


def plain(text: str) -> str:
    """reStructuredText, as docstrings have it, in Markdown."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")
