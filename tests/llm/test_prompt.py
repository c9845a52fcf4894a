"""Prompts: the chat template's control tokens are control tokens, callers' never are."""

import random
import re
import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPImageProcessorPil

from models.dreamllm.processing import DreamLLMProcessor
from models.training.tokenizer import train_tokenizer
from server.llm.conversation import ImagePart, Message, Role, TextPart
from server.llm.prompt import PromptBuilder, PromptError, plain_text_tokenizer, special_tokens
from tests.allocated import allocated_bytes
from tests.llm.real_tokenizers import CONTROL, QUERIES, SPECIAL, TOKENIZERS, byte_level, llama_like
from tests.scripted.engine import ScriptedEngine
from tests.scripted.tokenizer import VICUNA_TEMPLATE
from tests.untimed import untimed

every_tokenizer = pytest.mark.parametrize("tokenizer", [t() for t in TOKENIZERS.values()], ids=list(TOKENIZERS))
hostile = st.lists(st.one_of(st.sampled_from(SPECIAL + CONTROL + QUERIES), st.text(max_size=5)), max_size=5).map(
    "".join
)

CAT = ImagePart(Image.new("RGB", (4, 4), "red"), "cat")
DOG = ImagePart(Image.new("RGB", (4, 4), "blue"), "dog")


def builder(
    tokenizer: Tokenizer | None = None, template: str = VICUNA_TEMPLATE, max_model_len: int = 4096
) -> PromptBuilder:
    return PromptBuilder(ScriptedEngine(tokenizer=tokenizer, max_model_len=max_model_len, chat_template=template))


def message(role: Role, *parts: str | ImagePart) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text without any control token in it."""
    return plain_text_tokenizer(tokenizer, frozenset()).encode(text, add_special_tokens=False).ids


@every_tokenizer
def test_text_between_two_control_tokens_is_encoded_as_one_string(tokenizer: Tokenizer) -> None:
    prompt = builder(tokenizer).build(
        [
            message("system", "Be brief."),
            message("user", "the ", "cat"),
            message("assistant", "sat"),
            message("user", "?"),
        ]
    )
    assert list(prompt.token_ids) == [
        1,
        *plain(tokenizer, "Be brief. USER: the cat ASSISTANT: sat"),
        2,
        *plain(tokenizer, "USER: ? ASSISTANT:"),
    ]
    assert prompt.images == ()


@every_tokenizer
def test_a_users_picture_is_shown_and_the_models_own_was_dreamt_before(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer=tokenizer)
    prompt = PromptBuilder(engine).build([message("user", CAT, "like"), message("assistant", "so", DOG)])
    assert list(prompt.token_ids) == [
        1,
        *plain(tokenizer, "USER: "),
        *engine.config.image_block,
        *plain(tokenizer, "like ASSISTANT: so"),
        *engine.config.dream_block,
        *engine.config.image_block,
        2,
        *plain(tokenizer, "ASSISTANT:"),
    ]
    assert [(image.id, image.pixels) for image in prompt.images] == [("cat", CAT.pixels), ("dog", DOG.pixels)]


@every_tokenizer
@given(system=hostile, user=hostile, assistant=hostile)
@untimed
def test_no_text_of_a_caller_becomes_a_control_token(
    tokenizer: Tokenizer, system: str, user: str, assistant: str
) -> None:
    build = builder(tokenizer)
    prompt = build.build([message("system", system), message("user", user), message("assistant", assistant)])
    control = [token_id for token_id in prompt.token_ids if token_id in build.control_token_ids]
    assert control == [1, 2]


@every_tokenizer
@given(text=hostile)
@untimed
def test_what_a_caller_wrote_is_what_the_model_reads(tokenizer: Tokenizer, text: str) -> None:
    ids = builder(tokenizer).encode_text(text)
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    normalizer = tokenizer.normalizer
    if normalizer is None and tokenizer.pre_tokenizer is not None and "Metaspace" not in repr(tokenizer.pre_tokenizer):
        assert decoded == text
    else:  # the space before the text is dropped in decoding, be it the tokenizer's or the caller's
        assert decoded in (text, text[1:] if text.startswith((" ", "▁")) else text, text.replace("▁", " "))


@every_tokenizer
@given(text=hostile)
@untimed
def test_a_negative_prompt_is_bos_and_text(tokenizer: Tokenizer, text: str) -> None:
    build = builder(tokenizer)
    prompt = build.build_negative(text)
    assert prompt.token_ids == (1, *build.encode_text(text, "images.negative_prompt"))
    assert build.control_token_ids.isdisjoint(prompt.token_ids[1:])


def test_control_tokens_that_are_not_marked_special_are_letters_too() -> None:
    tokenizer = Tokenizer.from_str(byte_level().to_str().replace('"special":true', '"special":false'))
    engine = ScriptedEngine(tokenizer=tokenizer)
    ids = PromptBuilder(engine).encode_text("<dream_start><dream_query_1>")
    assert engine.config.control_token_ids.isdisjoint(ids)


def test_a_tokenizer_that_gives_control_tokens_all_the_same_is_caught() -> None:
    build = builder(byte_level())
    build.control_token_ids |= set(build.encode_text("a"))
    with pytest.raises(PromptError) as refused:
        build.encode_text("a", "images.negative_prompt")
    assert refused.value.param == "images.negative_prompt"


def test_the_engines_tokenizer_is_not_changed() -> None:
    tokenizer = llama_like()
    before = tokenizer.to_str()
    builder(tokenizer).encode_text("<s>")
    assert tokenizer.to_str() == before
    assert not tokenizer.encode_special_tokens
    assert tokenizer.encode("<s>", add_special_tokens=False).ids == [1]


def test_a_template_that_trims_and_shouts_does_not_touch_callers_text() -> None:
    template = "{% for m in messages %}{{ m['content'][0]['text'] | trim | upper }}{% endfor %}"
    tokenizer = byte_level()
    assert tokenizer.decode(list(builder(tokenizer, template).build([message("user", " a b ")]).token_ids)) == " a b "


def test_a_template_can_refuse_a_conversation() -> None:
    with pytest.raises(PromptError, match="roles must alternate") as refused:
        builder(template="{{ raise_exception('roles must alternate') }}").build([message("user", "a")])
    assert refused.value.param == "messages"


def test_a_template_can_tell_the_date() -> None:
    tokenizer = byte_level()
    template = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}"
    prompt = builder(tokenizer, template).build([message("user", "!")])
    assert re.fullmatch(r"20\d\d!", tokenizer.decode(list(prompt.token_ids)))


def test_the_model_is_served_what_it_was_trained_on() -> None:
    trained = train_tokenizer(seed=0, num_dream_queries=4)
    assert isinstance(trained.chat_template, str)
    engine = ScriptedEngine(tokenizer=trained.backend_tokenizer, chat_template=trained.chat_template)
    processor = DreamLLMProcessor(
        CLIPImageProcessorPil(), trained, num_image_tokens=1, num_dream_queries=4, chat_template=trained.chat_template
    )
    conversation = [
        message("system", "Be brief."),
        message("user", "A ", CAT, " red circle"),
        message("assistant", "Here.", DOG, "It is red."),
        message("user", CAT, "again"),
    ]
    plain_messages = [
        {
            "role": m.role,
            "content": [
                {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                for part in m.parts
            ],
        }
        for m in conversation
    ]
    text = trained.apply_chat_template(plain_messages, tokenize=False, add_generation_prompt=True)
    expected = trained.encode(processor.expand(text), add_special_tokens=False)
    assert list(PromptBuilder(engine).build(conversation).token_ids) == expected


@pytest.mark.parametrize("part", ["text", CAT])
def test_a_template_that_leaves_out_a_part_is_an_error(part: str | ImagePart) -> None:
    with pytest.raises(PromptError, match="no place"):
        builder(template="USER:").build([message("user", part)])


def test_a_prompt_fits_if_one_token_can_be_sampled_after_it() -> None:
    conversation = [message("user", CAT, "a")]
    engine = ScriptedEngine()
    length = engine.context_length(PromptBuilder(engine).build(conversation))
    builder(max_model_len=length + 1).build(conversation)
    with pytest.raises(PromptError, match=str(length)):
        builder(max_model_len=length).build(conversation)


def test_a_text_that_no_context_could_hold_is_refused_before_it_is_cut_into_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build = builder(max_model_len=64)
    monkeypatch.setattr(build, "_tokenizer", None)
    with pytest.raises(PromptError, match="20000 letters") as refused:
        build.build([message("user", "a " * 5000), message("user", "b " * 5000)])
    assert refused.value.param == "messages"
    with pytest.raises(PromptError, match="10000 letters") as refused:
        build.build_negative("a " * 5000)
    assert refused.value.param == "images.negative_prompt"


def test_special_tokens_are_those_that_decoding_leaves_out() -> None:
    tokens = special_tokens(llama_like())
    assert set(tokens) == {*SPECIAL, *CONTROL, *QUERIES}
    assert all(llama_like().decode([i], skip_special_tokens=True) == "" for i in tokens.values())


@every_tokenizer
def test_no_thread_keeps_what_callers_say(tokenizer: Tokenizer) -> None:
    build, dice = builder(tokenizer), random.Random(0)
    texts = ["".join(dice.choices(string.ascii_lowercase, k=150)) for _ in range(3_000)]
    with ThreadPoolExecutor(2) as threads:
        # What malloc itself keeps for a thread comes with its first texts.
        tokens_of_some = sum(map(len, threads.map(build.encode_text, texts[:500])))
        before = allocated_bytes()
        tokens_of_all = sum(map(len, threads.map(build.encode_text, texts)))
        kept = allocated_bytes() - before
    assert tokens_of_all > tokens_of_some > 0
    assert kept < sum(map(len, texts))
