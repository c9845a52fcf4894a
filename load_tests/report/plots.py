"""Plots of results, small ones."""

import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from load_tests.results import Plot, Results

INCHES = (6.0, 3.4)
DPI = 100


def draw_plots(results: Results, folder: Path) -> list[Path]:
    """Draw the plots of a benchmark as PNG, in place of those that it had. Returns the files, in their order."""
    for old in folder.glob(f"{results.benchmark}-*.png"):
        old.unlink()
    return [_draw(plot, folder / f"{results.benchmark}-{slug(plot.title)}.png") for plot in results.plots]


def slug(title: str) -> str:
    """A title as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _draw(plot: Plot, file: Path) -> Path:
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for series in plot.series:
        axes.plot(series.x, series.y, marker="o", markersize=4, label=series.name)
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    if plot.log_x:
        axes.set_xscale("log", base=2)
        ticks = sorted({x for series in plot.series for x in series.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if plot.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(plot.series) > 1:
        axes.legend(fontsize="small")
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return file
