"""From messages to the context of the language model.

The model's chat template decides what stands between the parts; it is rendered with an unguessable mark in place of
every text that a caller wrote. Only what the template itself wrote can therefore be a control token. Callers' text is
encoded with special tokens switched off and checked afterwards, so that no text can become one.
"""

import json
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram

from models.dreamllm.configuration import DreamLLMConfig
from models.dreamllm.processing import DREAM_PLACEHOLDER, IMAGE_PLACEHOLDER
from server.llm.conversation import ImagePart, Message, TextPart
from server.llm.engine import LLMEngine, Prompt, PromptImage

MARK = r"\[(?P<nonce>\d+):(?P<number>\d+)\]"
"""What stands for a text of a caller while the template is rendered."""


class PromptError(ValueError):
    """A request that cannot become a context: the caller's to mend.

    Attributes:
        param: the field of the request to blame: ``"messages"``, ``"prompt"`` or ``"images.negative_prompt"``.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def expanded_length(prompt: Prompt, config: DreamLLMConfig) -> int:
    """Tokens of a prompt when each picture's placeholder has become its patches."""
    return len(prompt.token_ids) + len(prompt.images) * (config.num_image_tokens - 1)


class PromptBuilder:
    """Builds prompts for one model. Made once, used by all requests, from any thread.

    Args:
        engine: the model's tokenizer, chat template and limits.

    Attributes:
        control_token_ids: what no text of a caller may become, and no text of the model may hold.

    Raises:
        jinja2.TemplateSyntaxError: the chat template is none.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._config = engine.config
        self._max_model_len = engine.max_model_len
        # No text that is longer than this fits, however it is cut into tokens. Counting letters takes no time.
        self._max_letters = engine.max_model_len * max(map(len, engine.tokenizer.get_vocab()))
        self._special = special_tokens(engine.tokenizer)
        self._bos_token_id: int = engine.config.text_config.bos_token_id
        self._template_tokens = {
            "bos_token": engine.tokenizer.id_to_token(self._bos_token_id),
            "eos_token": engine.tokenizer.id_to_token(engine.eos_token_id),
        }
        unknown = getattr(engine.tokenizer.model, "unk_token", None)
        special_ids = {token_id for token, token_id in self._special.items() if token != unknown}
        self.control_token_ids = (
            engine.config.control_token_ids | special_ids | {self._bos_token_id, engine.eos_token_id}
        )
        self._tokenizer = plain_text_tokenizer(engine.tokenizer, self.control_token_ids)
        self._template = chat_template_environment().from_string(engine.chat_template)
        self._written = {
            **{token: [token_id] for token, token_id in self._special.items()},
            IMAGE_PLACEHOLDER: engine.config.image_block,
            DREAM_PLACEHOLDER: engine.config.dream_block,
        }
        longest_first = sorted(self._written, key=len, reverse=True)
        self._pieces = re.compile("|".join([MARK, *map(re.escape, longest_first)]))

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The context in which the model answers the conversation.

        The template writes ``<image>`` for a picture and ``<dream>`` before one that the model drew, as for
        :class:`~models.dreamllm.processing.DreamLLMProcessor`; they become the config's image and dream blocks.

        Raises:
            PromptError: the template refuses the conversation or has no place for a part of it, or the context leaves
                no room for an answer.
        """
        texts = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
        images = [part for message in messages for part in message.parts if isinstance(part, ImagePart)]
        self._check_letters(sum(map(len, texts)), "messages")
        # Digits and brackets survive what templates do to text: trimming and changing its case.
        nonce = str(secrets.randbits(128))
        token_ids = self._encode_rendered(self._render(messages, nonce), nonce, texts)
        if token_ids.count(self._config.image_token_id) != len(images):
            raise PromptError("messages", "the chat template has no place for a picture of this conversation")
        return self._fitting(
            Prompt(tuple(token_ids), tuple(PromptImage(image.id, image.pixels) for image in images)), "messages"
        )

    def build_description(self, text: str, param: str = "prompt") -> Prompt:
        """The context of one picture after its description: BOS and the text, without the chat template.

        So the official code draws text to images, and its training pairs a picture with a caption.

        Raises:
            PromptError: the text leaves no room for the dream queries.
        """
        self._check_letters(len(text), param)
        prompt = Prompt((self._bos_token_id, *self.encode_text(text, param)))
        return self._fitting(prompt, param, len(self._config.dream_block))

    def build_negative(self, text: str) -> Prompt:
        """The context of a negative prompt, which is that of a description, as in the official code.

        Raises:
            PromptError: the text leaves no room for the dream queries.
        """
        return self.build_description(text, "images.negative_prompt")

    def encode_text(self, text: str, param: str = "messages") -> list[int]:
        """Token ids of a text, whatever it says: its control tokens are read letter by letter.

        Raises:
            PromptError: the tokenizer gave a control token all the same.
        """
        if not text:
            return []
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if not self.control_token_ids.isdisjoint(ids):
            raise PromptError(param, "the text holds a control token of the model")
        return ids

    def _check_letters(self, letters: int, param: str) -> None:
        if letters > self._max_letters:
            raise PromptError(
                param, f"{letters} letters are more than the context of {self._max_model_len} tokens holds"
            )

    def _fitting(self, prompt: Prompt, param: str, more: int = 0) -> Prompt:
        needed = expanded_length(prompt, self._config) + more + 1
        if needed > self._max_model_len:
            raise PromptError(
                param,
                f"{needed} tokens are needed for this and one sampled token; the context holds {self._max_model_len}",
            )
        return prompt

    def _render(self, messages: Sequence[Message], nonce: str) -> str:
        """The rendered template, with a mark of this nonce and its number in place of each text."""
        number = 0
        conversation: list[dict[str, Any]] = []
        for message in messages:
            content = []
            for part in message.parts:
                if isinstance(part, TextPart):
                    content.append({"type": "text", "text": f"[{nonce}:{number}]"})
                    number += 1
                else:
                    content.append({"type": "image"})
            conversation.append({"role": message.role, "content": content})
        try:
            return self._template.render(messages=conversation, add_generation_prompt=True, **self._template_tokens)
        except jinja2.TemplateError as error:
            raise PromptError("messages", f"the chat template refuses this conversation: {error}") from error

    def _encode_rendered(self, rendered: str, nonce: str, texts: Sequence[str]) -> list[int]:
        """Ids of what the template wrote, with the texts in their places.

        Text of the template and of callers between two control tokens is encoded as one string.
        """
        ids: list[int] = []
        text: list[str] = []
        placed = set()
        end = 0
        for match in self._pieces.finditer(rendered):
            text.append(rendered[end : match.start()])
            end = match.end()
            if match["nonce"] == nonce:
                placed.add(int(match["number"]))
                text.append(texts[int(match["number"])])
            elif match[0] in self._written:
                ids += self.encode_text("".join(text)) + self._written[match[0]]
                text = []
            else:
                text.append(match[0])  # looks like a mark, but the template itself wrote it
        ids += self.encode_text("".join([*text, rendered[end:]]))
        if len(placed) < len(texts):
            raise PromptError("messages", "the chat template has no place for a text of this conversation")
        return ids


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The special tokens of a tokenizer, which decoding leaves out, and their ids."""
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: token_id for token_id, token in added.items() if token.special}


def plain_text_tokenizer(tokenizer: Tokenizer, control_ids: frozenset[int]) -> Tokenizer:
    """A copy that reads special and control tokens in a text as plain letters, neither cuts nor pads, and has no cache.

    By default the pieces of 10,000 words of up to 256 bytes are kept, and that in each thread which encodes. Llama's
    tokenizer takes all that stands between two control tokens for one word: callers' texts would be kept, which hardly
    ever come again, and 10,000 of 200 letters take 66 MB a thread.
    """
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["special"] or token["id"] in control_ids
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    copy.no_truncation()
    copy.no_padding()
    if isinstance(copy.model, BPE | Unigram):
        copy.model._resize_cache(0)
    return copy


def chat_template_environment() -> jinja2.Environment:
    """The sandbox for which chat templates are written, as in transformers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(format: str) -> str:
        return datetime.now().astimezone().strftime(format)

    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment
