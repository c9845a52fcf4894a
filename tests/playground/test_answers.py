"""An answer on the page: text as it comes, pictures in their places from the queue to the last step."""

from typing import Any

from playwright.async_api import Locator, expect

from server.pool.base import Completed, Preview, Progress, Queued, RenderError, RenderJob
from tests.api.serving import scripted_engine
from tests.playground.conftest import OpenPlayground
from tests.scripted.pool import JobItem, ScriptedPool, drawing, rendered
from tests.scripted.script import DREAM, EOS, Gate


def warm_up(job: RenderJob) -> list[JobItem]:
    return []


async def box(locator: Locator) -> Any:
    """Place and size on the page, wherever it is scrolled to."""
    script = """element => {
        const { x, y, width, height } = element.getBoundingClientRect();
        return { x, y: y + scrollY, width, height };
    }"""
    return await locator.evaluate(script)


async def is_loaded(picture: Locator) -> bool:
    image = picture.locator("img.final")
    await expect(image).to_be_visible()
    return bool(await image.evaluate("image => image.decode().then(() => image.naturalWidth > 0)"))


async def test_an_answer_with_two_pictures_grows_in_its_order(playground: OpenPlayground) -> None:
    writing, queued, started, previewed = Gate(), Gate(), Gate(), Gate()

    def slowly(job: RenderJob) -> list[JobItem]:
        preview = Preview(0, rendered(job, (120, 90, 90)))
        steps: list[JobItem] = [Progress(2, 4), started, Progress(3, 4), preview, previewed]
        return [Queued(2, 7.4), queued, *steps, Completed(rendered(job))]

    turns = (
        ["Here is a red ", writing, "circle.", DREAM],
        [" And here is a blue star.", DREAM],
        [" That is all.", EOS],
    )
    async with playground(scripted_engine(*turns), ScriptedPool([warm_up, slowly, drawing])) as visit:
        await visit.ask("Draw two pictures: a red circle, then a blue star.")

        await expect(visit.texts).to_have_text("Here is a red")
        await expect(visit.answers).to_have_attribute("aria-busy", "true")
        writing.open()
        await expect(visit.texts).to_have_text("Here is a red circle.")

        picture, ring = visit.pictures.first, visit.page.get_by_role("progressbar", name="Drawing picture 1")
        await expect(picture).to_contain_text("2 ahead in the queue, ready in about 7 s")
        await expect(ring).not_to_have_attribute("aria-valuenow", "50")
        frame = await box(picture.locator(".frame"))
        queued.open()
        await expect(ring).to_have_attribute("aria-valuenow", "50")
        await expect(ring).to_have_attribute("aria-valuetext", "step 2 of 4")
        await expect(picture.locator(".preview")).to_be_hidden()
        started.open()
        await expect(picture.locator(".preview")).to_be_visible()
        await expect(ring).to_have_attribute("aria-valuenow", "75")
        previewed.open()
        await visit.answered()

        await expect(visit.pictures).to_have_count(2)
        assert await is_loaded(visit.pictures.nth(0))
        assert await is_loaded(visit.pictures.nth(1))
        assert await box(picture.locator(".frame")) == frame
        await expect(visit.texts).to_have_text(
            ["Here is a red circle.", "And here is a blue star.", "That is all."], use_inner_text=True
        )
        order = await visit.page.locator(".parts > *").evaluate_all("parts => parts.map(part => part.tagName)")
        assert order == ["P", "FIGURE", "P", "FIGURE", "P"]
        names = await visit.page.locator("img.final").evaluate_all("images => images.map(image => image.alt)")
        assert names == [
            "Picture 1, drawn for: Here is a red circle.",
            "Picture 2, drawn for: And here is a blue star.",
        ]
        await expect(visit.page.get_by_role("progressbar")).to_have_count(0)
        await expect(visit.page.locator(".facts")).to_contain_text("2 pictures")
        assert await visit.announcements() == [
            "Here is a red circle.",
            "Picture 1 is on its way.",
            "Picture 1 is drawn.",
            "And here is a blue star.",
            "Picture 2 is on its way.",
            "Picture 2 is drawn.",
            "That is all.",
            "The answer is complete.",
        ]


async def test_a_picture_keeps_its_place_and_what_follows_does_not_move_when_it_comes(
    playground: OpenPlayground,
) -> None:
    drawn = Gate()

    def slowly(job: RenderJob) -> list[JobItem]:
        return [Queued(0, None), Progress(1, 2), drawn, Completed(rendered(job))]

    engine = scripted_engine(["First.", DREAM], [" Later text.", EOS])
    async with playground(engine, ScriptedPool([warm_up, slowly]), reduced_motion="reduce") as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Finished pictures are").select_option("none")
        await visit.page.get_by_label("Width").fill("128")
        await visit.page.get_by_label("Height").fill("64")
        await visit.ask("Show me.")

        await expect(visit.texts).to_have_text(["First.", "Later text."], use_inner_text=True)
        frame, later = await box(visit.page.locator(".frame")), await box(visit.texts.nth(1))
        assert frame["width"] == 2 * frame["height"]
        drawn.open()
        await visit.answered()

        assert await is_loaded(visit.pictures)
        assert await box(visit.page.locator(".frame")) == frame
        assert await box(visit.texts.nth(1)) == later


async def test_a_picture_that_fails_says_why_and_the_text_goes_on(playground: OpenPlayground) -> None:
    engine = scripted_engine(["Look.", DREAM], [" Sorry.", EOS])
    failing: list[JobItem] = [Queued(0, None), RenderError("render_failed", "out of paint")]
    async with playground(engine, ScriptedPool([warm_up, failing])) as visit:
        await visit.ask("Show me.")
        await visit.answered()

        await expect(visit.pictures).to_contain_text("Picture 1 could not be drawn: out of paint")
        await expect(visit.page.get_by_role("progressbar")).to_have_count(0)
        await expect(visit.texts).to_have_text(["Look.", "Sorry."], use_inner_text=True)
        assert "Picture 1 could not be drawn: out of paint" in await visit.announcements()


async def test_text_that_looks_like_markup_is_text(playground: OpenPlayground) -> None:
    markup = "<img src=x onerror=alert(1)> & <b>bold</b>"
    async with playground(scripted_engine([markup, EOS])) as visit:
        await visit.ask(markup)
        await visit.answered()

        await expect(visit.texts).to_have_text(markup)
        await expect(visit.page.get_by_role("heading", name=markup)).to_be_visible()


async def test_an_answer_that_fails_says_why_and_can_be_tried_again(playground: OpenPlayground) -> None:
    engine = scripted_engine(["Half an", RuntimeError("a defect")], ["A whole answer.", EOS])
    async with playground(engine) as visit:
        await visit.ask("Go.")
        await visit.answered()

        await expect(visit.answers).to_contain_text("Half an")
        await expect(visit.page.locator(".state")).to_contain_text("The server failed")
        await visit.page.get_by_role("button", name="Try again").click()
        await expect(visit.page.get_by_role("heading", name="Go.")).to_be_focused()
        await expect(visit.texts).to_have_text("A whole answer.")
        await expect(visit.page.get_by_role("button", name="Try again")).to_be_hidden()
        await expect(visit.answers).to_have_count(1)


async def test_a_request_that_is_refused_says_why(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(), settings={"limits": {"steps": 10}}) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Steps").fill("11")
        await visit.ask("Go.")

        await expect(visit.page.locator(".state")).to_have_text("images.steps: at most 10.")


async def test_an_answer_that_a_limit_ended_says_so(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(["A long answer", EOS])) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Tokens at most").fill("6")
        await visit.ask("Go.")

        await expect(visit.page.locator(".state")).to_contain_text("as many tokens as you allowed")
        await expect(visit.texts).to_have_text("A long")
