"""What can be taken away from the playground: the request as code, the conversation as a page."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.api.serving import scripted_engine
from tests.playground.conftest import OpenPlayground
from tests.playground.visit import Visit
from tests.scripted.script import DREAM, EOS

PROMPT = 'Draw what\'s "red" — `$HOME` \\ 🎨.'
STORY = (["Here is red.", DREAM], [" Done.", EOS])


async def copied(visit: Visit, language: str) -> str:
    await visit.page.get_by_role("button", name="As code").last.click()
    await visit.page.get_by_text(language, exact=True).click()
    await visit.page.get_by_role("button", name="Copy").click()
    await expect(visit.page.locator("#code-note")).to_have_text("Copied.")
    await visit.page.keyboard.press("Escape")
    return str(await visit.page.evaluate("navigator.clipboard.readText()"))


async def run(*command: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@pytest.mark.parametrize("language", ["curl", "Python"])
async def test_the_code_of_a_request_makes_the_same_request(
    playground: OpenPlayground, tmp_path: Path, language: str
) -> None:
    engine = scripted_engine(*STORY, ["And?", EOS], ["Again.", DREAM], [EOS])
    async with playground(engine, permissions=["clipboard-read", "clipboard-write"]) as visit:
        await visit.page.get_by_role("button", name="Parameters").click()
        await visit.page.get_by_label("Temperature").fill("0.25")
        await visit.ask(PROMPT)
        await visit.answered()
        await visit.ask("And now?")
        await visit.answered()
        asked = engine.calls[-1]
        code = await copied(visit, language)
        command = ("bash", "-c", code) if language == "curl" else (sys.executable, "-c", code)
        output = await run(*command, cwd=tmp_path)

        made = engine.calls[-2]
        assert made.prompt.token_ids == asked.prompt.token_ids
        assert [image.id for image in made.prompt.images] == [image.id for image in asked.prompt.images]
        assert made.sampling.temperature == 0.25
        if language == "curl":
            assert "event: image.completed" in output
        else:
            assert output == "Again.\n[picture-1.png]\n\n"
            assert (tmp_path / "picture-1.png").read_bytes().startswith(b"\x89PNG")


async def test_pictures_are_shortened_in_the_code_that_is_looked_at(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(*STORY, [EOS])) as visit:
        await visit.ask("Draw.")
        await visit.answered()
        await visit.ask("And now?")
        await visit.answered()
        await visit.page.get_by_role("button", name="As code").last.click()

        shown = await visit.page.locator("#code-text").inner_text()
        assert re.search(r'"data:image/png;base64,\S{8} … \S{8}"', shown)
        await expect(visit.page.get_by_text("The copy has the pictures in full.")).to_be_visible()


async def test_a_conversation_is_saved_as_one_page_that_needs_nothing(
    playground: OpenPlayground, tmp_path: Path
) -> None:
    async with playground(scripted_engine(*STORY)) as visit:
        await visit.ask("Draw <b>red</b>.")
        await visit.answered()
        async with visit.page.expect_download() as download:
            await visit.page.get_by_role("button", name="Save page").click()
        saved = tmp_path / "saved.html"
        await (await download.value).save_as(saved)
        assert (await download.value).suggested_filename == "conversation.html"

        page = await visit.page.context.new_page()
        await page.context.set_offline(True)
        await page.goto(saved.as_uri())
        await expect(page).to_have_title("Draw <b>red</b>.")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Draw <b>red</b>.")
        assert await page.locator("p").all_inner_texts() == ["Here is red.", "Done."]
        picture = page.get_by_role("img", name="Drawn for: Here is red.")
        assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        await expect(page.locator("footer")).to_contain_text("1 picture")
        assert re.findall(r'(?:src|href)="(?!data:)', saved.read_text()) == []
