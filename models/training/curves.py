"""Loss curves: as JSON lines, as TensorBoard events, and as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

LOG = "log.jsonl"
PICTURE = "curves.png"
EVENTS = "events"


class Curves:
    """Writes the points of one run.

    Args:
        folder: of the run.
        step: the steps done so far. Points that lie behind it, of a run that was killed, are taken back.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.points = [point for point in read_log(folder) if point["step"] <= step]
        self._rewrite()
        self._log = (folder / LOG).open("a")
        self._events = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to every curve."""
        point = {"step": step, **values}
        self.points.append(point)
        self._log.write(json.dumps(point) + "\n")
        self._log.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def draw(self) -> None:
        """Write the picture of all curves."""
        draw_curves(self.points, self.folder / PICTURE)

    def close(self) -> None:
        """Draw, and finish the files."""
        self.draw()
        self._log.close()
        self._events.close()

    def _rewrite(self) -> None:
        draft = self.folder / f"{LOG}.draft"
        draft.write_text("".join(json.dumps(point) + "\n" for point in self.points))
        draft.replace(self.folder / LOG)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The points of a run's log, none if there is no log. A last line that a kill cut off is left out."""
    path = folder / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw_curves(points: list[dict[str, Any]], path: Path) -> None:
    """A panel for every curve, over the steps."""
    names = list(dict.fromkeys(name for point in points for name in point if name != "step"))
    figure = Figure(figsize=(4 * max(1, len(names)), 3), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        curve = [(point["step"], point[name]) for point in points if name in point]
        axes.plot(*zip(*curve, strict=True), linewidth=1)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
