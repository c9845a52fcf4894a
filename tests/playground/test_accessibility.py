"""The page for everyone: by keyboard, by screen reader, on a phone, in the dark, without motion."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from server.pool.base import Progress, Queued, RenderError
from tests.api.serving import scripted_engine
from tests.playground.conftest import OpenPlayground
from tests.playground.test_answers import warm_up
from tests.playground.test_parameters import PHONE
from tests.scripted.pool import ScriptedPool, drawing
from tests.scripted.script import DREAM, EOS, Gate

LONG = "A word of one hundred letters: " + "m" * 100 + "."


async def violations(page: Page) -> list[str]:
    found = await Axe().run(page)
    return [f"{v['id']}: {node['html']}" for v in found.response["violations"] for node in v["nodes"]]


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing_in_any_state(playground: OpenPlayground, colours: str) -> None:
    waiting = Gate()
    engine = scripted_engine(["One.", DREAM], [" Two.", DREAM], [" Three.", DREAM], [" End.", RuntimeError("a defect")])
    failing = [Queued(0, None), RenderError("render_failed", "out of paint")]
    pool = ScriptedPool([warm_up, drawing, failing, [Queued(1, 2.0), Progress(1, 2), waiting]])
    async with playground(engine, pool, color_scheme=colours, reduced_motion="reduce") as visit:
        assert await violations(visit.page) == [], "the empty page"
        await visit.ask("Draw three pictures.")
        await waiting.reached.wait()
        await expect(visit.page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
        assert await violations(visit.page) == [], "an answer that is being made"
        waiting.open()
        await visit.answered()
        assert await violations(visit.page) == [], "an answer that failed"
        await visit.page.get_by_role("button", name="Parameters").click()
        assert await violations(visit.page) == [], "the panel"
        await visit.page.keyboard.press("Escape")
        await visit.page.get_by_role("button", name="As code").click()
        assert await violations(visit.page) == [], "the code"


async def test_the_keyboard_reaches_everything_in_the_order_of_the_page(playground: OpenPlayground) -> None:
    focused = "() => document.activeElement.ariaLabel ?? document.activeElement.innerText.trim()"
    outline = """() => {
        const focused = document.activeElement;
        return getComputedStyle(focused.matches("textarea") ? focused.closest(".sheet") : focused).outlineStyle;
    }"""
    async with playground(scripted_engine(["Hello.", EOS])) as visit:
        reached = []
        for _ in range(9):
            await visit.page.keyboard.press("Tab")
            reached.append(await visit.page.evaluate(focused))
            assert await visit.page.evaluate(outline) != "none", f"no outline around {reached[-1]}"

        assert reached[0] == "Skip to the prompt"
        assert reached[1:3] == ["Parameters", "Dark colours"]
        assert reached[3] == "Draw two pictures: a red circle, then a blue star."
        assert reached[7:9] == ["Prompt", "Add pictures"]


async def test_the_prompt_can_be_skipped_to(playground: OpenPlayground) -> None:
    async with playground(scripted_engine()) as visit:
        await visit.page.keyboard.press("Tab")
        await expect(visit.page.get_by_role("link", name="Skip to the prompt")).to_be_in_viewport()
        await visit.page.keyboard.press("Enter")

        await expect(visit.prompt).to_be_focused()


@pytest.mark.parametrize("width", [320, 360, 1120])
async def test_nothing_is_wider_than_the_window(playground: OpenPlayground, width: int) -> None:
    async def sideways(page: Page) -> int:
        return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    context: dict[str, Any] = {**PHONE, "viewport": {"width": width, "height": 640}}
    async with playground(scripted_engine([LONG, DREAM], [" End.", EOS], [EOS]), **context) as visit:
        assert await sideways(visit.page) == 0
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Width").fill("512")
        await visit.page.get_by_role("button", name="Close parameters").click()
        await visit.ask(LONG)
        await visit.answered()
        assert await sideways(visit.page) == 0
        frame = await visit.page.locator(".frame").bounding_box()
        assert frame is not None
        assert frame["x"] >= 0
        assert frame["x"] + frame["width"] <= width
        await visit.page.get_by_role("button", name="As code").click()
        assert await sideways(visit.page) == 0


async def test_the_colours_are_the_systems_until_others_are_chosen(playground: OpenPlayground) -> None:
    async def is_dark(page: Page) -> bool:
        script = "getComputedStyle(document.documentElement).getPropertyValue('background-color')"
        lightness = str(await page.evaluate(script)).removeprefix("oklch(").split()[0]
        return float(lightness) < 0.5

    async with playground(scripted_engine(), color_scheme="dark") as visit:
        toggle = visit.page.get_by_role("button", name="Dark colours")
        await expect(toggle).to_have_attribute("aria-pressed", "true")
        assert await is_dark(visit.page)
        await toggle.click()
        await expect(toggle).to_have_attribute("aria-pressed", "false")
        assert not await is_dark(visit.page)
        await visit.page.reload()
        await visit.ready()
        assert not await is_dark(visit.page)


async def test_nothing_moves_for_readers_who_want_no_motion(playground: OpenPlayground) -> None:
    waiting = Gate()
    pool = ScriptedPool([warm_up, [Queued(1, 2.0), waiting]])
    async with playground(scripted_engine(["One.", DREAM]), pool, reduced_motion="reduce") as visit:
        await visit.ask("Draw.")
        await waiting.reached.wait()
        await expect(visit.page.get_by_role("progressbar")).to_be_visible()

        moving = "document.getAnimations().filter(a => a.effect.getComputedTiming().activeDuration > 1).length"
        assert await visit.page.evaluate(moving) == 0
