"""A visit of the playground: the app, the page that shows it, and what a visitor does with it."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from tests.api.serving import Listening

REFUSED = "Failed to load resource"  # what Chromium logs of any response of 4xx or 5xx


@dataclass
class Visit:
    """An open playground.

    Attributes:
        app: that it belongs to.
        page: in the browser.
        address: of the page.
        problems: what the page did wrong: exceptions, errors on the console, requests to elsewhere.
        resumed: query strings with which the page has gone on with answers.
    """

    app: Listening
    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> Locator:
        """Where prompts are written."""
        return self.page.get_by_role("textbox", name="Prompt", exact=True)

    @property
    def answers(self) -> Locator:
        """The answers, oldest first."""
        return self.page.locator(".answer")

    @property
    def texts(self) -> Locator:
        """The stretches of text of all answers."""
        return self.page.locator(".text")

    @property
    def pictures(self) -> Locator:
        """The pictures of all answers, at whatever stage."""
        return self.page.get_by_role("figure")

    async def ready(self) -> None:
        """Return when prompts can be sent."""
        await expect(self.page.locator("#model")).to_have_text("scripted")

    async def ask(self, prompt: str) -> None:
        """Write a prompt and send it."""
        await self.prompt.fill(prompt)
        await self.prompt.press("Control+Enter")

    async def answered(self) -> None:
        """Return when no answer is being made."""
        await expect(self.page.locator(".answer[aria-busy=true]")).to_have_count(0)

    async def announcements(self) -> list[str]:
        """What a screen reader was told."""
        return await self.page.locator("#announcements p").all_inner_texts()

    async def drop(self, name: str, content: bytes, media_type: str = "image/png") -> None:
        """Drag a file onto the page."""
        await self.page.evaluate(
            """([name, type, content]) => {
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([bytes], name, { type }));
                for (const kind of ["dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [name, media_type, base64.b64encode(content).decode()],
        )


@asynccontextmanager
async def visit_of(
    app: Listening, browser: Browser, address: str | None = None, await_ready: bool = True, **context: Any
) -> AsyncIterator[Visit]:
    """Open the page, ready for prompts. What it does wrong fails the test at the end.

    Args:
        app: whose playground it is.
        browser: that opens it.
        address: of the page; by default that of the app.
        await_ready: whether to wait until prompts can be sent.
        context: options of a browser context.
    """
    opened = await browser.new_context(**context)
    page = await opened.new_page()
    visit = Visit(app, page, address or str(app.client.base_url))

    def watch_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(REFUSED):
            visit.problems.append(message.text)

    def watch_request(request: Request) -> None:
        if not request.url.startswith((visit.address, "data:", "blob:")):
            visit.problems.append(f"a request to {request.url}")
        if "stream=true" in request.url:
            visit.resumed.append(request.url.partition("?")[2])

    page.on("console", watch_console)
    page.on("pageerror", lambda error: visit.problems.append(str(error)))
    page.on("request", watch_request)
    try:
        await page.goto(visit.address)
        if await_ready:
            await visit.ready()
        yield visit
    finally:
        await opened.close()
    assert not visit.problems, visit.problems
