"""Prompts with pictures, and conversations of several turns."""

import base64
import io

from PIL import Image
from playwright.async_api import expect

from tests.api.serving import scripted_engine
from tests.playground.conftest import OpenPlayground
from tests.scripted.script import DREAM, EOS

PASTE = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name, { type: "image/png" }));
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


def png(colour: str) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(encoded, "PNG")
    return encoded.getvalue()


async def test_pictures_are_dropped_pasted_and_chosen_and_reach_the_model(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(["Two colours.", EOS])) as visit:
        attached = visit.page.get_by_role("list", name="Pictures of the prompt").get_by_role("img")
        await visit.drop("red.png", png("red"))
        await expect(attached).to_have_count(1)
        await visit.page.evaluate(PASTE, ["green.png", base64.b64encode(png("green")).decode()])
        await expect(attached).to_have_count(2)
        await visit.page.locator("#files").set_input_files(
            [{"name": "blue.png", "mimeType": "image/png", "buffer": png("blue")}]
        )
        await expect(attached).to_have_count(3)
        await visit.page.get_by_role("button", name="Remove green.png").click()
        await expect(attached).to_have_count(2)

        await visit.ask("What do you see?")
        await visit.answered()

        await expect(visit.page.locator("#attached")).to_be_hidden()
        shown = visit.page.locator(".asked img")
        assert await shown.evaluate_all("images => images.map(image => image.alt)") == ["red.png", "blue.png"]
        images = [image.pixels.getpixel((0, 0)) for image in visit.app.engine.calls[-1].prompt.images]
        assert images == [(255, 0, 0), (0, 0, 255)]


async def test_a_file_that_is_no_picture_is_not_taken(playground: OpenPlayground) -> None:
    async with playground(scripted_engine()) as visit:
        await visit.drop("notes.txt", b"words", "text/plain")

        await expect(visit.page.get_by_text("Not a PNG, JPEG, WebP or GIF: notes.txt")).to_be_visible()
        await expect(visit.page.locator("#attached")).to_be_hidden()
        await expect(visit.page.locator("#dropping")).to_be_hidden()


async def test_a_second_prompt_is_asked_with_the_first_answer_before_it(playground: OpenPlayground) -> None:
    engine = scripted_engine(["Here.", DREAM], [EOS], ["It is red.", EOS])
    async with playground(engine) as visit:
        await visit.ask("Draw something.")
        await visit.answered()
        await visit.ask("What did you draw?")
        await visit.answered()

        await expect(visit.answers).to_have_count(2)
        asked = engine.calls[-1].prompt
        text = engine.tokenizer.decode(list(asked.token_ids))
        assert "USER: Draw something. ASSISTANT: Here." in text
        assert text.endswith("USER: What did you draw? ASSISTANT:")
        assert [image.pixels.getpixel((0, 0)) for image in asked.images] == [(200, 30, 30)]


async def test_a_prompt_that_was_not_answered_is_not_held_against_the_next(playground: OpenPlayground) -> None:
    engine = scripted_engine([RuntimeError("a defect")], ["Better.", EOS])
    async with playground(engine) as visit:
        await visit.ask("First.")
        await visit.answered()
        await visit.ask("Second.")
        await visit.answered()

        await expect(visit.texts).to_have_text("Better.")
        assert "First" not in engine.tokenizer.decode(list(engine.calls[-1].prompt.token_ids))


async def test_an_example_is_asked_with_one_click(playground: OpenPlayground) -> None:
    async with playground(scripted_engine(["Hello!", EOS])) as visit:
        await visit.page.get_by_role("button", name="What can you do?").click()

        await expect(visit.page.get_by_role("heading", name="What can you do?")).to_be_focused()
        await expect(visit.texts).to_have_text("Hello!")
        await expect(visit.page.get_by_role("heading", name="One answer")).to_be_hidden()
