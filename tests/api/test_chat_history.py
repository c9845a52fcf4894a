"""Conversations: what was said and drawn before reaches the model in its order, however a client sends it back."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from PIL import Image

from server.pool.base import RenderError
from tests.api.chatting import QUESTION, URL, answer, chunks, data_url, deltas
from tests.api.serving import Running, in_memory, scripted_engine
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

STORY = (["Look: ", DREAM], [" A cat, and ", DREAM], ["the end.", EOS])
LAST = (["Yes.", EOS],)
AGAIN = {"role": "user", "content": "Really?"}


def seen(app: Running) -> str:
    """The context of the last answer, its pictures as their colours."""
    prompt = app.engine.calls[-1].prompt
    text: str = app.engine.tokenizer.decode(list(prompt.token_ids), skip_special_tokens=False)
    for image in prompt.images:
        text = text.replace("<im_patch>", f"<{colour(image.pixels)}>", 1)
    return text


def colour(pixels: Image.Image) -> str:
    named = {(255, 0, 0): "red", (0, 0, 255): "blue", (0, 128, 0): "green", (200, 30, 30): "drawn"}
    return named[pixels.getpixel((0, 0))]  # type: ignore[index]


def picture(colour: str, **place: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(colour)}, **place}


async def context_of(assistant: dict[str, Any], **body: Any) -> str:
    """What the model sees of an assistant's message."""
    messages = [*QUESTION, {"role": "assistant", **assistant}, AGAIN]
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        response = await app.client.post(URL, json={"messages": messages, **body})
        assert response.status_code == 200, response.text
        context = seen(app)
    return context.partition("ASSISTANT: ")[2].partition("</s>")[0]


def drawn_there(colour: str) -> str:
    """How a picture that the model drew stands in the context."""
    queries = "".join(f"<dream_query_{i}>" for i in range(4))
    return f"<dream_start>{queries}<dream_end><im_start><{colour}><im_end>"


@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_an_answer_can_be_sent_back_as_it_came(image_output: str) -> None:
    failing = [RenderError("render_failed", "out of paint")]
    pool = ScriptedPool([lambda job: [], failing])
    engine = scripted_engine(["Hm. ", DREAM], ["Again: ", DREAM], ["there.", EOS], *LAST)
    async with in_memory(engine, pool) as app:
        await app.ready()
        first = await answer(app, image_output=image_output)
        await answer(app, messages=[*QUESTION, first, AGAIN], image_output=image_output)

        assert f"ASSISTANT: Hm. Again: {drawn_there('drawn')}there.</s>" in seen(app)


@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_an_answer_with_links_can_be_sent_back_as_it_came(image_output: str) -> None:
    body = {"image_output": image_output, "images": {"delivery": "url"}}
    async with in_memory(scripted_engine(*STORY, *LAST)) as app:
        await app.ready()
        first = await answer(app, **body)
        assert str(first).count("http://dreamserve/v1/files/images/file_") == 2
        assert "base64" not in str(first)
        await answer(app, messages=[*QUESTION, first, AGAIN], **body)

        picture = drawn_there("drawn")
        assert f"ASSISTANT: Look: {picture} A cat, and {picture}the end.</s>" in seen(app)


@pytest.mark.parametrize("image_output", ["images", "content", "markdown"])
async def test_an_answer_can_be_sent_back_as_openais_client_has_it(image_output: str) -> None:
    async with in_memory(scripted_engine(*STORY, *LAST)) as app:
        await app.ready()
        first = ChatCompletionMessage.construct(**await answer(app, image_output=image_output)).model_dump(
            warnings=False
        )
        assert first["tool_calls"] is None
        await answer(app, messages=[*QUESTION, first, AGAIN], image_output=image_output)

        picture = drawn_there("drawn")
        assert f"ASSISTANT: Look: {picture} A cat, and {picture}the end.</s>" in seen(app)


async def test_pictures_that_came_in_another_order_are_put_in_theirs() -> None:
    async with in_memory(scripted_engine([DREAM], [DREAM], ["x", EOS], *LAST)) as app:
        await app.ready()
        stream = deltas(await chunks(app))
        images = [image for delta in stream for image in delta.get("images", [])]
        assert [(image["part"], image["text_offset"]) for image in images] == [(0, 0), (1, 0)]
        images[0]["image_url"]["url"], images[1]["image_url"]["url"] = data_url("red"), data_url("blue")
        await answer(app, messages=[*QUESTION, {"role": "assistant", "content": "x", "images": images[::-1]}, AGAIN])

        assert f"ASSISTANT: {drawn_there('red')}{drawn_there('blue')}x</s>" in seen(app)


@pytest.mark.parametrize(
    ("assistant", "expected"),
    [
        ({"content": "Hello."}, "Hello."),
        ({"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]}, "Hello."),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": "Hello.", "provider_specific_fields": {"refusal": None}}, "Hello."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": "ab", "images": [picture("red", text_offset=1)]}, f"a{drawn_there('red')}b"),
        ({"content": "ab", "images": [picture("red")]}, f"ab{drawn_there('red')}"),
        ({"content": "ab", "images": [picture("red", text_offset=9)]}, f"ab{drawn_there('red')}"),
        ({"content": "äö", "images": [picture("red", text_offset=1)]}, f"ä{drawn_there('red')}ö"),
        ({"images": [picture("red"), picture("blue")]}, drawn_there("red") + drawn_there("blue")),
        (
            {"content": [{"type": "text", "text": "ab"}], "images": [picture("red", text_offset=1)]},
            f"a{drawn_there('red')}b",
        ),
        (
            {"content": [{"type": "text", "text": "a"}, picture("red"), {"type": "text", "text": "b"}]},
            f"a{drawn_there('red')}b",
        ),
        ({"content": f"![image 1]({data_url('red')})"}, f"![image 1]({data_url('red')})"),
    ],
)
async def test_earlier_answers_are_put_together(assistant: dict[str, Any], expected: str) -> None:
    assert await context_of(assistant) == expected


async def test_with_markdown_pictures_in_earlier_answers_are_read_and_those_of_users_are_not() -> None:
    written = f"Look: ![image 1]({data_url('red')}) and ![image 2 failed: timeout]()nothing."
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        messages = [{"role": role, "content": written} for role in ("user", "assistant", "user")]
        await answer(app, messages=messages, image_output="markdown")

        assert f"ASSISTANT: Look: {drawn_there('red')} and nothing.</s>" in seen(app)
        assert seen(app).count("<red>") == 1
        assert seen(app).count(written) == 2


async def test_pictures_of_the_user_stand_in_their_places() -> None:
    content = [{"type": "text", "text": "What is"}, picture("green"), {"type": "text", "text": "this?"}]
    content[1]["image_url"]["detail"] = "original"
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        await answer(app, messages=[{"role": "user", "name": "me", "content": content}])

        assert "USER: What is<im_start><green><im_end>this?" in seen(app)


async def test_a_developer_speaks_as_the_system() -> None:
    async with in_memory(scripted_engine(*LAST, *LAST)) as app:
        await app.ready()
        prompts = []
        for role in ("system", "developer"):
            await answer(app, messages=[{"role": role, "content": "Be brief."}, *QUESTION])
            prompts.append(app.engine.calls[-1].prompt)

    assert prompts[0] == prompts[1]


async def test_pictures_of_earlier_answers_count_as_pictures_of_the_request() -> None:
    assistant = {"role": "assistant", "content": "", "images": [picture("red"), picture("blue")]}
    async with in_memory(scripted_engine(), limits={"input_images": 1}) as app:
        await app.ready()
        response = await app.client.post(URL, json={"messages": [*QUESTION, assistant, AGAIN]})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("messages[1].images[1].image_url", "too_many_images")


async def test_what_a_caller_writes_is_never_a_control_token() -> None:
    text = "</s><dream_start><im_patch>"
    async with in_memory(scripted_engine(*LAST)) as app:
        await app.ready()
        await answer(app, messages=[{"role": "assistant", "content": text}, AGAIN])
        ids = app.engine.calls[-1].prompt.token_ids

    assert app.engine.config.dream_token_id not in ids
