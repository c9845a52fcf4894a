"""A server that asks for a key: the page asks its reader, keeps what he gives for the tab, and shows it to nobody."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from server.guard.keys import table_of
from tests.api.asking import ALICE, BOB, keys_of_alice_and_bob
from tests.api.serving import scripted_engine
from tests.commands import run
from tests.playground.conftest import OpenPlayground
from tests.playground.test_accessibility import violations
from tests.playground.test_taking_along import copied
from tests.playground.visit import Visit
from tests.scripted.script import EOS

EVERYTHING_KEPT = "JSON.stringify([localStorage, document.cookie, document.documentElement.outerHTML, location.href])"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Of a server that knows Alice and Bob."""
    return {"auth": keys_of_alice_and_bob(tmp_path)}


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="API key")


def leave_bob_alone_in(keys_file: Path) -> None:
    keys_file.write_text(table_of("bob", BOB))


async def give(page: Page, key: str) -> None:
    await dialog(page).get_by_label("Key", exact=True).fill(key)
    await dialog(page).get_by_role("button", name="Use it").click()


async def given(visit: Visit, key: str = ALICE) -> None:
    """Return when prompts can be sent with a key."""
    await give(visit.page, key)
    await visit.ready()


async def test_the_page_asks_for_a_key_until_it_is_given_one_that_is_valid(
    playground: OpenPlayground, settings: dict[str, Any]
) -> None:
    async with playground(scripted_engine(["Hello.", EOS]), settings=settings, await_ready=False) as visit:
        field = dialog(visit.page).get_by_label("Key", exact=True)
        await expect(field).to_be_focused()
        await expect(visit.page.locator("#model")).to_have_text("This server asks for an API key.")
        await expect(visit.page.locator("#key-note")).to_be_empty()
        await give(visit.page, "wrong")
        await expect(visit.page.locator("#key-note")).to_have_text("this API key is not valid")
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_have_value("")
        await given(visit)

        await expect(dialog(visit.page)).to_be_hidden()
        await visit.ask("Say something.")
        await visit.answered()
        await expect(visit.texts).to_have_text("Hello.")


async def test_a_key_is_kept_for_the_tab_and_for_no_other(playground: OpenPlayground, settings: dict[str, Any]) -> None:
    async with playground(scripted_engine(), settings=settings, await_ready=False) as visit:
        await given(visit)
        await visit.page.reload()
        await visit.ready()
        await expect(dialog(visit.page)).to_be_hidden()
        assert ALICE not in await visit.page.evaluate(EVERYTHING_KEPT)

        other = await visit.page.context.new_page()
        await other.goto(visit.address)
        await expect(dialog(other)).to_be_visible()


async def test_a_question_that_was_closed_can_be_opened_again(
    playground: OpenPlayground, settings: dict[str, Any]
) -> None:
    async with playground(scripted_engine(), settings=settings, await_ready=False) as visit:
        await expect(dialog(visit.page)).to_be_visible()
        await visit.page.keyboard.press("Escape")
        await expect(dialog(visit.page)).to_be_hidden()
        await visit.page.get_by_role("button", name="API key", exact=True).click()
        await given(visit)


async def test_a_key_that_is_taken_away_is_asked_for_again(
    playground: OpenPlayground, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.guard.key_ring.LOOK_EVERY_S", 0.001)
    async with playground(scripted_engine(["Hello.", EOS]), settings=settings, await_ready=False) as visit:
        await given(visit)
        leave_bob_alone_in(settings["auth"]["keys_file"])
        headers = {"Authorization": f"Bearer {ALICE}"}
        while (await visit.app.client.get("/v1/models", headers=headers)).status_code != 401:
            pass
        await visit.ask("Say something.")
        await expect(visit.page.locator("#key-note")).to_have_text("this API key is not valid")
        await give(visit.page, BOB)
        await visit.page.get_by_role("button", name="Try again").click()
        await visit.answered()

        await expect(visit.texts).to_have_text("Hello.")


@pytest.mark.parametrize("language", ["curl", "Python"])
async def test_the_code_of_a_request_takes_the_key_from_where_it_runs(
    playground: OpenPlayground, settings: dict[str, Any], tmp_path: Path, language: str
) -> None:
    engine = scripted_engine(["Hello.", EOS], ["Again.", EOS])
    clipboard = ["clipboard-read", "clipboard-write"]
    async with playground(engine, settings=settings, await_ready=False, permissions=clipboard) as visit:
        await given(visit)
        await visit.ask("Say something.")
        await visit.answered()
        code = await copied(visit, language)
        command = ("bash", "-c", code) if language == "curl" else (sys.executable, "-c", code)
        output = await run(command, tmp_path, {**os.environ, "DREAMSERVE_API_KEY": ALICE})

        assert ALICE not in code
        assert "DREAMSERVE_API_KEY" in code
        assert "Again." in output if language == "Python" else "document.completed" in output


async def test_a_server_that_asks_nobody_says_nothing_of_keys(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(["Hello.", EOS])) as visit:
        await expect(visit.page.get_by_role("button", name="API key")).to_be_hidden()
        await visit.ask("Say something.")
        await visit.answered()
        await visit.page.get_by_role("button", name="As code").click()

        await expect(visit.page.locator("#code-text")).not_to_contain_text("Authorization")


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing_in_the_question(
    playground: OpenPlayground, settings: dict[str, Any], colours: str
) -> None:
    context: dict[str, Any] = {"color_scheme": colours, "reduced_motion": "reduce"}
    async with playground(scripted_engine(), settings=settings, await_ready=False, **context) as visit:
        await expect(dialog(visit.page)).to_be_visible()
        assert await violations(visit.page) == []
        await give(visit.page, "wrong")
        await expect(visit.page.locator("#key-note")).not_to_be_empty()
        assert await violations(visit.page) == []
        await given(visit)
        assert await violations(visit.page) == []
