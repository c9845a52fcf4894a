"""How far each stage is from what the official code recorded."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch


@dataclass(slots=True)
class Stage:
    """The comparison of a stage that came closest to its tolerance, or went furthest past it.

    Attributes:
        difference: the largest of all comparisons, absolute.
        share: of the tolerance that the worst value used up; above 1 it was not met.
        tolerance: in words.
        comparisons: how many there were.
    """

    difference: float
    share: float
    tolerance: str
    comparisons: int


class DifferenceReport:
    """Compares, and remembers the largest difference of each stage."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def compare(
        self,
        stage: str,
        actual: torch.Tensor | np.ndarray,
        expected: torch.Tensor | np.ndarray,
        *,
        atol: float,
        rtol: float = 0.0,
    ) -> None:
        """Fail if any value is further off than ``atol + rtol * |expected|``; 0 and 0 stand for equality."""
        ours, theirs = (torch.as_tensor(values).detach().cpu().double() for values in (actual, expected))
        assert ours.shape == theirs.shape, f"{stage}: {list(ours.shape)}, expected {list(theirs.shape)}"
        differences = (ours - theirs).abs()
        allowed = atol + rtol * theirs.abs()
        # Equal values are within any tolerance; without this, 0 of 0 would be NaN.
        shares = torch.where(differences == 0, 0.0, differences / allowed)
        share = shares.max().item()
        self._record(stage, differences.max().item(), share, f"{atol:g} + {rtol:g} |x|" if rtol else f"{atol:g}")
        assert share <= 1, f"{stage}: off by up to {differences.max().item():.3g}"

    def lines(self) -> list[str]:
        """A table of all stages, in the order in which they were first compared."""
        width = max((len(stage) for stage in self._stages), default=0)
        return [
            f"{name:<{width}}  largest difference {stage.difference:8.2e}  of {stage.tolerance:<16}"
            f"  {stage.share:4.0%} used  {stage.comparisons} compared"
            for name, stage in self._stages.items()
        ]

    def _record(self, name: str, difference: float, share: float, tolerance: str) -> None:
        stage = self._stages.setdefault(name, Stage(0.0, 0.0, tolerance, 0))
        stage.difference = max(stage.difference, difference)
        stage.share = max(stage.share, share)
        stage.comparisons += 1


_REPORT = pytest.StashKey[DifferenceReport]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> DifferenceReport:
    """The report of the run; the conftest of a folder that uses it imports this and the hook below."""
    return pytestconfig.stash.setdefault(_REPORT, DifferenceReport())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report after the results."""
    if _REPORT in config.stash:
        terminalreporter.section("differences from the official code")
        for line in config.stash[_REPORT].lines():
            terminalreporter.write_line(line)
