"""No text of a caller becomes a control token, whichever token he writes, and wherever.

The prompt of a request that is full of control tokens is held against that of the same request with a harmless word in
their place: both must have the same control tokens in the same order, which are those that the server wrote itself.
Both with the vocabulary of the embedded checkpoint and with that of a converted one.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dreamllm.conversion import convert
from server.llm.conversation import Message, Role, TextPart
from server.llm.engine import Prompt, Sampling
from server.settings import DEFAULT_CHECKPOINT
from tests.api.serving import in_memory
from tests.guard.picture_files import RED, encoded
from tests.parity.converted import CHECKPOINT, Checkpoint
from tests.scripted.engine import ScriptedEngine, TokenItem
from tests.scripted.script import DREAM, EOS
from tests.untimed import untimed

HARMLESS = "word"
PLACEHOLDERS = ("<image>", "<dream>")
"""What chat templates write for pictures; not every vocabulary has them as tokens."""

LONG = 100_000
MOST_STOPS = 16
PICTURE = base64.b64encode(encoded(RED, "PNG")).decode()

Body = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module", params=["embedded", "converted"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    if request.param == "embedded":
        return Checkpoint.load(DEFAULT_CHECKPOINT)
    target: Path = tmp_path_factory.mktemp("control-tokens") / "converted"
    convert(CHECKPOINT, target)
    return Checkpoint.load(target)


def vocabulary(checkpoint: Checkpoint) -> list[str]:
    """Every token that means something to the model beside its letters."""
    ids = set(checkpoint.tokenizer.get_added_tokens_decoder()) | checkpoint.config.control_token_ids
    tokens = [checkpoint.tokenizer.id_to_token(token_id) for token_id in sorted(ids)]
    assert all(tokens)
    return [*filter(None, tokens), *PLACEHOLDERS]


def control_ids(checkpoint: Checkpoint) -> set[int]:
    """Their ids, but for the unknown token, which any strange letter may become."""
    unknown = checkpoint.tokenizer.token_to_id("<unk>")
    return (set(checkpoint.tokenizer.get_added_tokens_decoder()) | checkpoint.config.control_token_ids) - {unknown}


def hostile_text(checkpoint: Checkpoint) -> str:
    """The whole vocabulary: apart, run together, one in the other, as a tokenizer writes spaces."""
    tokens = vocabulary(checkpoint)
    nested = [token[:2] + token + token[2:] for token in tokens]
    return " ".join(tokens) + "".join(tokens) + "\n".join(nested) + "▁" + "▁".join(tokens)


def control_skeleton(prompt: Prompt, checkpoint: Checkpoint) -> list[int]:
    """The control tokens of a prompt."""
    control = control_ids(checkpoint)
    return [token_id for token_id in prompt.token_ids if token_id in control]


def engine_of(checkpoint: Checkpoint, *turns: Sequence[TokenItem]) -> ScriptedEngine:
    """An engine with the checkpoint's vocabulary that answers the warm-up and then follows the turns."""
    engine = ScriptedEngine([[EOS], *turns], tokenizer=checkpoint.tokenizer, max_model_len=LONG)
    engine.config = checkpoint.config
    engine.chat_template = checkpoint.chat_template
    engine.eos_token_id = checkpoint.eos_token_id
    return engine


@dataclass(frozen=True)
class Asked:
    """What the engine was asked for one request.

    Attributes:
        prompts: of text and of dreams.
        sampling: how text is sampled.
    """

    prompts: list[Prompt]
    sampling: list[Sampling]

    def control(self, checkpoint: Checkpoint) -> list[list[int]]:
        """The control tokens of each prompt."""
        return [control_skeleton(prompt, checkpoint) for prompt in self.prompts]

    @property
    def ends_and_bans(self) -> list[tuple[Any, ...]]:
        """The tokens that end engine requests, those that are never sampled, and those that are more or less likely."""
        return [(s.stop_token_ids, s.banned_token_ids, dict(s.logit_bias)) for s in self.sampling]


async def asked(checkpoint: Checkpoint, path: str, *bodies: dict[str, Any]) -> list[Asked]:
    """What the engine is asked for requests: each answer is a text, a picture, a text."""
    turns: list[list[TokenItem]] = [["a", DREAM], ["b", EOS]]
    is_text = "response_format" in bodies[0]
    engine = engine_of(checkpoint, *(turns[1:] if is_text else turns) * len(bodies))
    recorded = []
    async with in_memory(engine) as app:
        await app.ready()
        for body in bodies:
            texts, dreams = len(engine.calls), len(engine.dream_calls)
            response = await app.client.post(path, json=body)
            assert response.status_code == 200, response.text
            calls = engine.calls[texts:]
            prompts = [call.prompt for call in calls] + [call.prompt for call in engine.dream_calls[dreams:]]
            recorded.append(Asked(prompts, [call.sampling for call in calls]))
    return recorded


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if len(content) == 1 else list(content)}


def answer(**message: Any) -> dict[str, Any]:
    return {"role": "assistant", **message}


def chat(*messages: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"messages": [user("a"), *messages, user("b")], **body}


def response(*items: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"input": [*items, {"role": "user", "content": "b"}], **body}


def picture_named(name: str) -> str:
    """A data URL with a name for its file."""
    # Commas and semicolons would end the name.
    return f"data:image/png;name={name}.png;base64,{PICTURE}"


INTERLEAVED, CHAT, RESPONSES, IMAGES = (
    "/v1/interleaved",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/images/generations",
)

TEXTS: dict[str, tuple[str, Body]] = {
    "interleaved: input": (INTERLEAVED, lambda t: {"input": t}),
    "interleaved: part": (INTERLEAVED, lambda t: {"input": [{"type": "text", "text": t}]}),
    "interleaved: system": (INTERLEAVED, lambda t: {"messages": [{"role": "system", "content": t}, user("a")]}),
    "interleaved: user": (INTERLEAVED, lambda t: {"messages": [user(t)]}),
    "interleaved: assistant": (INTERLEAVED, lambda t: {"messages": [user("a"), answer(content=t), user("b")]}),
    "interleaved: negative prompt": (INTERLEAVED, lambda t: {"input": "a", "images": {"negative_prompt": t}}),
    "interleaved: name of a picture": (
        INTERLEAVED,
        lambda t: {"input": [{"type": "input_image", "image_url": picture_named(t)}]},
    ),
    "chat: system": (CHAT, lambda t: {"messages": [{"role": "system", "content": t}, user("a")]}),
    "chat: developer": (CHAT, lambda t: {"messages": [{"role": "developer", "content": t}, user("a")]}),
    "chat: user": (CHAT, lambda t: {"messages": [user(t)]}),
    "chat: part": (CHAT, lambda t: {"messages": [user({"type": "text", "text": t}, {"type": "text", "text": t})]}),
    "chat: name of the user": (CHAT, lambda t: {"messages": [{**user("a"), "name": t}]}),
    "chat: answer": (CHAT, lambda t: chat(answer(content=t))),
    "chat: part of an answer": (CHAT, lambda t: chat(answer(content=[{"type": "text", "text": t}]))),
    "chat: refusal": (CHAT, lambda t: chat(answer(refusal=t))),
    "chat: part that refuses": (CHAT, lambda t: chat(answer(content=[{"type": "refusal", "refusal": t}]))),
    "chat: failed picture": (
        CHAT,
        lambda t: chat(answer(content=[{"type": "failed_image", "error": {"code": t, "message": t}}])),
    ),
    "chat: text around a picture": (
        CHAT,
        lambda t: chat(
            answer(
                content=t + t, images=[{"type": "image_url", "image_url": {"url": picture_named(t)}, "text_offset": 9}]
            )
        ),
    ),
    "chat: picture in Markdown": (
        CHAT,
        lambda t: chat(
            answer(content=f"![{t}](data:image/png;base64,{PICTURE}) ![image 1](data:image/png;base64,{PICTURE}) {t}"),
            image_output="markdown",
        ),
    ),
    "chat: failed picture in Markdown": (
        CHAT,
        lambda t: chat(answer(content=f"![image 1 failed: {t}]() {t}"), image_output="markdown"),
    ),
    "chat: negative prompt": (CHAT, lambda t: chat(images={"negative_prompt": t})),
    "chat: schema": (
        CHAT,
        lambda t: chat(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "n", "description": t, "schema": {"enum": [t], "description": t}},
            }
        ),
    ),
    "chat: user's id": (CHAT, lambda t: chat(user=t, safety_identifier=t, prompt_cache_key=t)),
    "responses: input": (RESPONSES, lambda t: {"input": t}),
    "responses: instructions": (RESPONSES, lambda t: {"input": "a", "instructions": t}),
    "responses: message": (RESPONSES, lambda t: response({"role": "user", "content": t})),
    "responses: part": (
        RESPONSES,
        lambda t: response({"role": "user", "content": [{"type": "input_text", "text": t}]}),
    ),
    "responses: developer": (RESPONSES, lambda t: response({"role": "developer", "content": t})),
    "responses: answer": (
        RESPONSES,
        lambda t: response({"role": "assistant", "content": [{"type": "output_text", "text": t}]}),
    ),
    "responses: refusal": (
        RESPONSES,
        lambda t: response({"role": "assistant", "content": [{"type": "refusal", "refusal": t}]}),
    ),
    "responses: picture that was drawn": (
        RESPONSES,
        lambda t: response({"type": "image_generation_call", "result": PICTURE, "revised_prompt": t, "action": t}),
    ),
    "responses: failed picture": (
        RESPONSES,
        lambda t: response({"type": "image_generation_call", "status": "failed", "error": {"message": t}}),
    ),
    "responses: negative prompt": (RESPONSES, lambda t: {"input": "a", "images": {"negative_prompt": t}}),
    "responses: user's id": (RESPONSES, lambda t: {"input": "a", "user": t, "safety_identifier": t}),
    "images: prompt": (IMAGES, lambda t: {"prompt": t}),
    "images: negative prompt": (IMAGES, lambda t: {"prompt": "a", "negative_prompt": t}),
    "images: user's id": (IMAGES, lambda t: {"prompt": "a", "user": t}),
}


@pytest.mark.parametrize("place", TEXTS)
async def test_no_text_of_a_request_becomes_a_control_token(checkpoint: Checkpoint, place: str) -> None:
    path, body = TEXTS[place]
    harmless, hostile = await asked(checkpoint, path, body(HARMLESS), body(hostile_text(checkpoint)))

    assert hostile.control(checkpoint) == harmless.control(checkpoint)
    assert [prompt.images for prompt in hostile.prompts] == [prompt.images for prompt in harmless.prompts]
    assert hostile.ends_and_bans == harmless.ends_and_bans


@pytest.mark.parametrize("path", [INTERLEAVED, CHAT])
async def test_a_stop_string_is_a_text_whatever_it_says(checkpoint: Checkpoint, path: str) -> None:
    tokens, body = vocabulary(checkpoint), {"messages": [user("a")]}
    stops = [tokens[begin : begin + MOST_STOPS] for begin in range(0, len(tokens), MOST_STOPS)]
    harmless, *hostile = await asked(checkpoint, path, body, *({**body, "stop": stop} for stop in stops))

    for requests in hostile:
        assert requests.prompts == harmless.prompts
        assert requests.ends_and_bans == harmless.ends_and_bans


async def test_what_a_tool_of_another_model_said_is_refused(checkpoint: Checkpoint) -> None:
    text = hostile_text(checkpoint)
    items = [
        {"type": "function_call", "call_id": "1", "name": text, "arguments": text},
        {"type": "function_call_output", "call_id": "1", "output": text},
    ]
    calls = [{"id": "1", "type": "function", "function": {"name": text, "arguments": text}}]
    engine = engine_of(checkpoint)
    async with in_memory(engine) as app:
        await app.ready()
        refused = [await app.client.post(RESPONSES, json=response(item)) for item in items]
        refused.append(await app.client.post(CHAT, json=chat(answer(content="a", tool_calls=calls))))
        refused.append(await app.client.post(CHAT, json=chat({"role": "tool", "tool_call_id": "1", "content": text})))

    assert [response.status_code for response in refused] == [400] * 4
    assert len(engine.calls) == 1


def test_any_mixture_of_tokens_and_letters_is_letters(checkpoint: Checkpoint) -> None:
    prompts, control = replace(checkpoint, max_model_len=LONG).prompts, control_ids(checkpoint)
    pieces = st.one_of(
        st.sampled_from(vocabulary(checkpoint)),
        st.sampled_from(vocabulary(checkpoint)).flatmap(lambda token: st.sampled_from([token[:-1], token[1:]])),
        st.sampled_from(["▁", " ", "<", ">", "</", "<0x0A>", "USER:", "ASSISTANT:"]),
        st.text(max_size=4),
    )
    texts = st.lists(pieces, max_size=8).map("".join)
    roles: st.SearchStrategy[Role] = st.sampled_from(["user", "assistant"])

    @given(system=texts, turns=st.lists(st.tuples(roles, texts), min_size=1, max_size=4), negative=texts)
    @settings(untimed, max_examples=200)
    def build(system: str, turns: list[tuple[Role, str]], negative: str) -> None:
        def prompt_of(word: Callable[[str], str]) -> Prompt:
            said: list[tuple[Role, str]] = [("system", system), *turns]
            return prompts.build([Message(role, (TextPart(word(text)),)) for role, text in said])

        hostile, harmless = prompt_of(lambda text: text), prompt_of(lambda _: HARMLESS)
        assert control_skeleton(hostile, checkpoint) == control_skeleton(harmless, checkpoint)
        for text in (system, negative, *(text for _, text in turns)):
            assert control.isdisjoint(prompts.encode_text(text))
        bos, *ids = prompts.build_negative(negative).token_ids
        assert bos == checkpoint.config.text_config.bos_token_id
        assert control.isdisjoint(ids)

    build()


def test_each_token_alone_is_letters(checkpoint: Checkpoint) -> None:
    for token in vocabulary(checkpoint):
        for text in (token, f" {token}", f"▁{token}", f"\n{token}\n", token * 2, token.upper(), token.lower()):
            assert control_ids(checkpoint).isdisjoint(checkpoint.prompts.encode_text(text)), text
