"""Answers that are stopped, and answers that go on: over a reload, over a connection that breaks."""

from playwright.async_api import Route, expect

from server.pool.base import Completed, Preview, Progress, Queued, RenderJob
from server.stored_documents import delete_document
from tests.api.serving import scripted_engine, until
from tests.cutting_proxy import CuttingProxy
from tests.playground.conftest import WINDOW, OpenPlayground
from tests.playground.test_answers import is_loaded, warm_up
from tests.playground.visit import visit_of
from tests.scripted.pool import JobItem, ScriptedPool, rendered
from tests.scripted.script import DREAM, EOS, Gate


async def test_stop_ends_the_answer_and_leaves_what_there_is(playground: OpenPlayground) -> None:
    drawing = Gate()
    engine = scripted_engine(["One picture.", DREAM])
    pool = ScriptedPool([warm_up, [Queued(0, None), Progress(1, 4), drawing]])
    async with playground(engine, pool) as visit:
        await visit.ask("Draw for ever.")
        await drawing.reached.wait()
        await visit.page.get_by_role("button", name="Stop").click()
        await visit.answered()

        await expect(visit.texts).to_have_text("One picture.")
        await expect(visit.page.locator(".state")).to_have_text("You stopped this answer.")
        await expect(visit.pictures).to_contain_text("could not be drawn")
        await expect(visit.page.get_by_role("button", name="Send")).to_be_visible()
        await expect(visit.prompt).to_be_focused()
        assert visit.app.service.documents == set()
        assert visit.app.pool.record.running == []


async def test_escape_stops_too_even_before_the_first_word(playground: OpenPlayground) -> None:
    thinking = Gate()
    async with playground(scripted_engine([thinking, EOS])) as visit:
        await visit.ask("Think.")
        await thinking.reached.wait()
        await visit.page.keyboard.press("Escape")
        await visit.answered()

        await expect(visit.page.locator(".state")).to_have_text("You stopped this answer.")
        assert (await visit.announcements())[-1] == "The answer was stopped."


async def test_a_reload_in_the_middle_goes_on_where_it_was(playground: OpenPlayground) -> None:
    second, third = Gate(), Gate()

    def previewed(job: RenderJob) -> list[JobItem]:
        return [Queued(0, 2.0), Progress(1, 2), Preview(0, rendered(job)), second, Completed(rendered(job))]

    turns = (["One.", DREAM], [" Two.", DREAM], [" Three", third, ".", EOS])
    async with playground(scripted_engine(*turns), ScriptedPool([warm_up, previewed])) as visit:
        await visit.ask("Draw two pictures.")
        await second.reached.wait()
        await expect(visit.pictures.locator(".preview")).to_be_visible()
        await visit.page.reload()

        await expect(visit.pictures.locator(".preview")).to_be_visible()
        await expect(visit.answers).to_have_attribute("aria-busy", "true")
        second.open()
        await third.reached.wait()
        await expect(visit.pictures).to_have_count(2)
        await visit.page.reload()
        third.open()
        await visit.answered()

        await expect(visit.texts).to_have_text(["One.", "Two.", "Three."], use_inner_text=True)
        await expect(visit.pictures).to_have_count(2)
        assert await is_loaded(visit.pictures.nth(0))
        assert await is_loaded(visit.pictures.nth(1))
        assert len(visit.resumed) == 2
        assert all("starting_after=" in query for query in visit.resumed)
        assert len(visit.app.engine.calls) == 1 + len(turns), "the answer was made twice"


async def test_a_finished_conversation_is_there_after_a_reload_until_a_new_one_is_begun(
    playground: OpenPlayground,
) -> None:
    async with playground(scripted_engine(["Here.", DREAM], [EOS])) as visit:
        await visit.ask("A picture.")
        await visit.answered()
        await visit.page.reload()

        await expect(visit.texts).to_have_text("Here.")
        assert await is_loaded(visit.pictures)
        assert visit.resumed == []
        await visit.page.get_by_role("button", name="New").click()
        await expect(visit.answers).to_have_count(0)
        await visit.page.reload()
        await expect(visit.page.get_by_role("heading", name="One answer")).to_be_visible()


async def test_a_document_that_the_server_no_longer_has_ends_with_that(playground: OpenPlayground) -> None:
    writing = Gate()
    async with playground(scripted_engine(["Gone soon.", DREAM], [" And", writing, EOS])) as visit:
        await visit.ask("Go.")
        await expect(visit.texts).to_have_count(2)
        document = next(iter(visit.app.service.documents))
        await visit.page.goto("about:blank")
        await delete_document(visit.app.service.journal, visit.app.service.files, document.id)
        visit.problems.clear()
        await visit.page.goto(visit.address)

        await expect(visit.page.locator(".state")).to_have_text("The server has not kept this answer.")
        await expect(visit.texts.first).to_have_text("Gone soon.")
        assert await is_loaded(visit.pictures)
        await expect(visit.page.get_by_role("button", name="Try again")).to_be_visible()


async def test_a_connection_that_breaks_is_made_again(playground: OpenPlayground) -> None:
    writing = Gate()
    async with playground(scripted_engine(["Before, ", writing, "after.", EOS])) as visit:
        port = visit.app.client.base_url.port
        assert port is not None
        browser = visit.page.context.browser
        assert browser is not None
        async with CuttingProxy(port) as proxy:
            address = f"http://127.0.0.1:{proxy.port}/"
            async with visit_of(visit.app, browser, address, viewport=WINDOW) as through:
                await through.ask("Go.")
                await expect(through.texts).to_have_text("Before,")
                await proxy.refuse()
                await expect(through.page.locator(".state")).to_have_text("Connection lost. Trying again …")
                through.problems.clear()
                writing.open()
                await until(lambda: not visit.app.service.documents)
                await proxy.heal()
                await through.answered()

                await expect(through.texts).to_have_text("Before, after.")
                await expect(through.page.locator(".state")).to_be_hidden()


async def test_a_page_that_comes_before_the_model_waits_for_it(playground: OpenPlayground) -> None:
    loading = {"error": {"message": "loading", "type": "service_unavailable_error", "code": "server_loading"}}
    asked = 0

    async def answer(route: Route) -> None:
        nonlocal asked
        asked += 1
        await (route.fulfill(status=503, json=loading) if asked == 1 else route.continue_())

    async with playground(scripted_engine(["Hello.", EOS])) as visit:
        await visit.page.route("**/v1/models", answer)
        await visit.page.reload()
        await expect(visit.page.get_by_role("status").first).to_have_text("The model is being loaded …")
        await visit.page.get_by_role("button", name="What can you do?").click()
        await expect(visit.page.get_by_text("The server takes no prompts yet.")).to_be_visible()
        await visit.ready()
        await visit.ask("Hello?")

        await expect(visit.texts).to_have_text("Hello.")


async def test_it_works_under_the_path_of_a_proxy(playground: OpenPlayground) -> None:
    settings = {"server": {"root_path": "/dream"}}
    async with playground(scripted_engine(["Hello.", DREAM], [EOS]), settings=settings) as visit:
        assert visit.address.endswith("/dream/")
        await visit.ask("Hello?")
        await visit.answered()
        await visit.page.reload()

        await expect(visit.texts).to_have_text("Hello.")
        assert await is_loaded(visit.pictures)
