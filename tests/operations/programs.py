"""Programs that the tests of operations run: they come from PyPI with the other packages of the tests."""

import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest


def program(name: str) -> Path:
    """Where a program is: beside this Python, or on the path. Without it the test is skipped, and in CI it fails."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is not None:
        return Path(found)
    missing = f"there is no {name} on this machine: `make install` brings it where its packages are made for it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    warnings.warn(missing, stacklevel=2)
    pytest.skip(missing)
