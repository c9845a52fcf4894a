"""A browser for all tests, and visits of the playground with it."""

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.api.serving import on_socket
from tests.playground.chromium import ARGUMENTS, NOT_FOUND, find_chromium
from tests.playground.visit import Visit, visit_of
from tests.scripted.engine import ScriptedEngine
from tests.scripted.pool import ScriptedPool

WINDOW = {"width": 1120, "height": 800}


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        path = find_chromium(playwright.chromium)
        if path is None:
            warnings.warn(NOT_FOUND, stacklevel=1)
            pytest.skip(NOT_FOUND)
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


class OpenPlayground(Protocol):
    """Opens the playground of an app over stand-ins. Keywords besides are those of a browser context."""

    def __call__(
        self,
        engine: ScriptedEngine,
        pool: ScriptedPool | None = None,
        settings: dict[str, Any] | None = None,
        **context: Any,
    ) -> AbstractAsyncContextManager[Visit]: ...


@pytest.fixture
def playground(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> OpenPlayground:
    """Every visit leaves a screenshot: in $DREAMSERVE_SCREENSHOTS if that is set, else only if the test fails."""
    kept = os.environ.get("DREAMSERVE_SCREENSHOTS")
    picture = Path(kept or tmp_path).absolute() / f"{request.node.name}.png"

    @asynccontextmanager
    async def open_playground(
        engine: ScriptedEngine,
        pool: ScriptedPool | None = None,
        settings: dict[str, Any] | None = None,
        **context: Any,
    ) -> AsyncIterator[Visit]:
        async with (
            on_socket(engine, pool, **(settings or {})) as app,
            visit_of(app, browser, **{"viewport": WINDOW, **context}) as visit,
        ):
            failed = True
            try:
                yield visit
                failed = False
            finally:
                if failed or kept:
                    await visit.page.screenshot(path=picture)
                    print(f"screenshot: {picture}")

    return open_playground
