"""What can be applied, rendered once by the tools of `make k8s-check`."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from k8s import check
from k8s.check import Rendered


@pytest.fixture(scope="session")
def rendered() -> Sequence[Rendered]:
    """Everything that there is to apply; the overlay for any cluster is the first."""
    require(check.TOOLS.exists(), "no environment .k8s: `make k8s-check` makes it")
    return check.render_all()


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Evaluates queries as Prometheus does."""
    found = shutil.which("promtool")
    require(found is not None, "no promtool (Debian's package prometheus)")
    return Path(found or "")


def require(there: bool, otherwise: str) -> None:
    """Skip the test where something is missing, but not in CI, which has to have it."""
    if not there and os.environ.get("CI") == "true":
        pytest.fail(otherwise)
    if not there:
        pytest.skip(otherwise)
