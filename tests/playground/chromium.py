"""The browser of the tests: whichever Chromium this machine has."""

import os
import shutil
from pathlib import Path

from playwright.async_api import BrowserType

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NOT_FOUND = (
    "NO CHROMIUM ON THIS MACHINE: the playground was not tested in a browser. Install chromium, or run "
    "`playwright install chromium`, or name one in $CHROMIUM"
)
ARGUMENTS = [
    "--no-sandbox",  # which needs more rights than a container has
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium(playwrights: BrowserType) -> str | None:
    """Path of the browser: that of $CHROMIUM, one of this machine, or playwright's own.

    Args:
        playwrights: knows where playwright's own would be.
    """
    if named := os.environ.get("CHROMIUM"):
        assert Path(named).is_file(), f"$CHROMIUM is {named}, where there is no file"
        return named
    own = playwrights.executable_path
    return next(filter(None, map(shutil.which, NAMES)), own if Path(own).is_file() else None)
