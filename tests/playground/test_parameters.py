"""The side panel: what the model does by itself, and what is asked of it instead."""

from typing import Any

from playwright.async_api import expect

from tests.api.serving import scripted_engine
from tests.playground.conftest import OpenPlayground
from tests.scripted.script import DREAM, EOS

CHOSEN = {
    "Tokens at most": "50",
    "Temperature": "0.25",
    "Top p": "0.8",
    "At most": "3",
    "Width": "32",
    "Steps": "7",
    "Guidance": "1.5",
    "Keep away from": "blur",
}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


async def test_empty_fields_show_what_the_model_does_by_itself(playground: OpenPlayground) -> None:
    async with playground(scripted_engine()) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        panel = visit.page.get_by_role("dialog", name="Parameters")

        defaults = {"Temperature": "0.5", "Top p": "0.9", "Width": "64", "Steps": "4", "Guidance": "3"}
        for label, default in defaults.items():
            await expect(panel.get_by_label(label)).to_have_attribute("placeholder", default)
            await expect(panel.get_by_label(label)).to_have_value("")
        await expect(panel.get_by_label("Scheduler")).to_contain_text("DDPM")


async def test_what_is_chosen_reaches_the_model_and_outlasts_a_reload(playground: OpenPlayground) -> None:
    engine = scripted_engine(["", DREAM], [EOS], [EOS])
    async with playground(engine) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        panel = visit.page.get_by_role("dialog", name="Parameters")
        for label, value in CHOSEN.items():
            await panel.get_by_label(label, exact=True).fill(value)
        await panel.get_by_label("Seed").fill("11")
        await panel.get_by_label("Scheduler").select_option("ddim")
        await panel.get_by_label("Previews of each").select_option("1")
        await visit.page.reload()
        await visit.ready()
        await expect(visit.page.get_by_role("button", name="Parameters, 11 changed")).to_be_visible()
        await visit.ask("Draw.")
        await visit.answered()

        sampling, job = engine.calls[1].sampling, visit.app.pool.jobs[-1]
        assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (50, 0.25, 0.8)
        assert (job.width, job.height, job.steps, job.guidance_scale, job.scheduler) == (32, 64, 7, 1.5, "ddim")
        assert job.previews == 1
        assert job.negative_states is not None
        await visit.page.get_by_role("button", name="Parameters").click()
        await panel.get_by_role("button", name="Back to the defaults").click()
        await expect(panel.get_by_label("Temperature")).to_have_value("")
        await expect(visit.page.get_by_role("button", name="Parameters", exact=True)).to_be_visible()


async def test_a_value_that_cannot_be_is_not_sent_and_the_field_is_shown(playground: OpenPlayground) -> None:
    async with playground(scripted_engine()) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Temperature").fill("9")
        await visit.page.get_by_role("button", name="Close parameters").click()
        await visit.ask("Go.")

        await expect(visit.page.get_by_label("Temperature")).to_be_focused()
        await expect(visit.prompt).to_have_value("Go.")
        await expect(visit.answers).to_have_count(0)


async def test_escape_closes_the_panel_and_gives_the_focus_back(playground: OpenPlayground) -> None:
    for context in ({}, PHONE):
        async with playground(scripted_engine(), **context) as visit:
            button = visit.page.get_by_role("button", name="Parameters", exact=True)
            await button.click()
            await expect(button).to_have_attribute("aria-expanded", "true")
            await visit.page.get_by_label("Top p").focus()
            await visit.page.keyboard.press("Escape")

            await expect(visit.page.get_by_role("dialog")).to_be_hidden()
            await expect(button).to_have_attribute("aria-expanded", "false")
            await expect(button).to_be_focused()
