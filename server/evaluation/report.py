"""What an evaluation found, as a table, as lines of bars, as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.evaluation.fidelity import Fidelity
from server.evaluation.frechet import FEATURE_SPACE
from server.evaluation.measures import MEASURES, SECTIONS, Measure
from server.evaluation.scores import Bar, NotMeasured, Tally, Verdict

LAYOUT: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0), "pad_edge": False}  # fits 80 columns
STYLES: dict[Verdict, str] = {"met": "green", "missed": "red"}


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Of so many tokens of true answers."""

    tokens: int
    value: float


@dataclass(frozen=True, slots=True)
class BarResult:
    """What became of a bar: its measure's name and tally, the bar, the verdict."""

    name: str
    tally: Tally
    bar: Bar
    verdict: Verdict

    def __str__(self) -> str:
        value = "-" if self.tally.rate is None else f"{self.tally.rate:.3f}"
        return f"bar {self.name} {value} {self.bar.goal:.3f} {self.verdict}"


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    Attributes:
        conditions: what the numbers depend on.
        tallies: by measure.
        fidelity: of the pictures.
        perplexity: of the text.
    """

    conditions: Mapping[str, Any]
    tallies: Mapping[str, Tally]
    fidelity: Fidelity | NotMeasured
    perplexity: Perplexity | NotMeasured

    def bars(self) -> Iterator[BarResult]:
        """All bars, in the order of the table."""
        for measure in MEASURES.values():
            if measure.bar is not None:
                tally = self.tallies.get(measure.name, Tally())
                yield BarResult(measure.name, tally, measure.bar, measure.bar.verdict(tally))

    @property
    def meets_all_bars(self) -> bool:
        """Whether no bar is missed."""
        return all(result.verdict == "met" for result in self.bars())

    def show(self, console: Console) -> None:
        """Print the table, and a line for each bar: ``bar NAME VALUE GOAL met|missed``."""
        console.print(self.table())
        for note in self.notes():
            console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)
        console.print()
        for result in self.bars():
            console.print(str(result), markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """A row for each measure that has cases or a bar."""
        table = Table(title=f"Evaluation of {self.conditions['model']}", title_justify="left", **LAYOUT)
        table.add_column("", no_wrap=True)
        for heading in ("right", "share", "95 % interval", "bar", ""):
            table.add_column(heading, justify="right", no_wrap=True)
        for section, measures in SECTIONS.items():
            table.add_row(Text(section, "bold"))
            for measure in measures:
                tally = self.tallies.get(measure.name, Tally())
                if tally.of or measure.bar:
                    table.add_row(*cells(measure, tally))
        if isinstance(self.fidelity, Fidelity):
            pictures = f"of {self.fidelity.pictures}"
            table.add_row(Text("Fréchet distance", "bold"), pictures, f"{self.fidelity.distance:.2f}")
            table.add_row("  of other true pictures", pictures, f"{self.fidelity.floor:.2f}")
        if isinstance(self.perplexity, Perplexity):
            table.add_row(Text("perplexity", "bold"), f"of {self.perplexity.tokens}", f"{self.perplexity.value:.3f}")
        return table

    def notes(self) -> Iterator[str]:
        """What the table alone does not tell."""
        if isinstance(self.fidelity, NotMeasured):
            yield f"Fréchet distance: not measured, {self.fidelity.reason}"
        else:
            yield f"Fréchet distance: to true pictures of the same wishes, in the features of {FEATURE_SPACE}"
        if isinstance(self.perplexity, NotMeasured):
            yield f"perplexity: not measured, {self.perplexity.reason}"
        else:
            yield "perplexity: of the tokens of true answers, by vLLM's log probabilities of prompts"

    def json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "conditions": dict(self.conditions),
            "measures": {name: measure_json(name, tally) for name, tally in sorted(self.tallies.items())},
            "frechet": {"features": FEATURE_SPACE, **asdict(self.fidelity)},
            "perplexity": asdict(self.perplexity),
            "meets_all_bars": self.meets_all_bars,
        }


def cells(measure: Measure, tally: Tally) -> tuple[str | Text, ...]:
    """A row of the table. Details are indented under the measure with the bar."""
    low, high = tally.interval
    share = "-" if tally.rate is None else f"{tally.rate:.1%}"
    interval = f"{100 * low:.1f} - {100 * high:.1f}" if tally.of else "-"
    counts = (f"{tally.right}/{tally.of}", share, interval)
    if measure.bar is None:
        return Text(f"    {measure.title}", "dim"), *counts
    verdict = measure.bar.verdict(tally)
    return f"  {measure.title}", *counts, str(measure.bar), Text(verdict, STYLES[verdict])


def measure_json(name: str, tally: Tally) -> dict[str, Any]:
    """A measure, for programs."""
    found: dict[str, Any] = {"right": tally.right, "of": tally.of, "share": tally.rate, "interval": tally.interval}
    measure = MEASURES[name]
    if measure.bar is not None:
        found["bar"] = {"goal": measure.bar.goal, "sense": measure.bar.sense, "verdict": measure.bar.verdict(tally)}
    return found
