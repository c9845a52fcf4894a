"""Perplexity of true answers, by the log probabilities that vLLM gives to the tokens of a prompt.

The context is the service's: its prompt builder, and the layout in which the interceptor lets an answer grow. What
counts is what the model would have to sample: text, the dream token before each picture, the end.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from PIL import Image
from vllm import SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind

from models.dreamllm.configuration import DreamLLMConfig
from models.training.documents import INSTRUCTIONS, Piece, render
from server.backend import Backend
from server.evaluation.report import Perplexity
from server.interleave.context import Context
from server.llm.conversation import ImagePart, Message, TextPart, pixels_digest
from server.llm.engine import Prompt, PromptImage
from server.llm.prompt import PromptBuilder
from server.llm.vllm_engine import VLLMEngine
from server.tasks import end

Pieces = Sequence[str | np.ndarray]
"""Texts, and pictures, uint8 ``[height, width, 3]``."""


@dataclass(slots=True)
class TrueAnswer:
    """A prompt with its answer, as the model would have read and sampled them.

    Attributes:
        context: all of it.
        sampled: for each token, pictures expanded, whether the model would have sampled it.
    """

    context: Context
    sampled: list[bool] = field(default_factory=list)

    @classmethod
    def of(cls, prompt: Pieces, answer: Pieces, engine: VLLMEngine, prompts: PromptBuilder) -> "TrueAnswer":
        """Encode a turn of the user and the answer to it. Not for the event loop.

        Raises:
            PromptError: the prompt does not fit the model.
        """
        this = cls(Context(engine.config))
        this.context.begin(prompts.build([Message("user", tuple(map(message_part, prompt)))]))
        this._note(sampled=0)
        for piece in answer:
            if isinstance(piece, str):
                for token_id in prompts.encode_text(piece):
                    this._add_token(token_id)
            else:
                this.context.add_dream()
                this._note(sampled=1)
                this.context.add_image(PromptImage.of(Image.fromarray(piece)))
                this._note(sampled=0)
        this._add_token(engine.eos_token_id)
        return this

    def _add_token(self, token_id: int) -> None:
        self.context.add_text(token_id)
        self._note(sampled=1)

    def _note(self, sampled: int) -> None:
        """Of the tokens just added, so many at the beginning would have been sampled."""
        added = self.context.length - len(self.sampled)
        self.sampled += [True] * sampled + [False] * (added - sampled)


def message_part(piece: str | np.ndarray) -> TextPart | ImagePart:
    """A piece of the user's turn."""
    if isinstance(piece, str):
        return TextPart(piece)
    pixels = Image.fromarray(piece)
    return ImagePart(pixels, pixels_digest(pixels))


def expanded(prompt: Prompt, config: DreamLLMConfig) -> list[int]:
    """Token ids with each picture's placeholder repeated for its patches."""
    return [
        token_id
        for token_id in prompt.token_ids
        for _ in range(config.num_image_tokens if token_id == config.image_token_id else 1)
    ]


async def answer_logprobs(
    engine: VLLMEngine, prompts: PromptBuilder, request_id: str, prompt: Pieces, answer: Pieces
) -> list[float]:
    """Log probabilities of the tokens of a true answer that the model would have sampled.

    Args:
        engine: of the service.
        prompts: of the service.
        request_id: unique.
        prompt: what the user says and shows.
        answer: what the model should say and draw.

    Raises:
        PromptError: the prompt does not fit the model.
        ValueError: vLLM read another prompt than the one whose tokens were counted.
    """
    true = await asyncio.to_thread(TrueAnswer.of, prompt, answer, engine, prompts)
    params = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,  # those of the prompt's own tokens, without alternatives
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    context = true.context.prompt
    tokens = TokensPrompt(prompt_token_ids=list(context.token_ids))
    if context.images:
        tokens["multi_modal_data"] = {"image": [image.pixels for image in context.images]}
        tokens["multi_modal_uuids"] = {"image": [image.id for image in context.images]}
    (rendered,) = await engine.llm.renderer.render_cmpl_async([tokens])
    async with aclosing(engine.llm.generate(rendered, params, request_id)) as outputs:
        (output,) = [output async for output in outputs]
    ids = expanded(context, engine.config)
    if output.prompt_token_ids != ids:
        raise ValueError("vLLM read another prompt than the one whose tokens were counted")
    return [output.prompt_logprobs[i][ids[i]].logprob for i, sampled in enumerate(true.sampled) if sampled]


def conversations(rng: random.Random, count: int) -> Iterator[tuple[Pieces, Pieces]]:
    """Prompts and true answers of so many conversations of one turn, whose pictures the model is shown."""
    while count:
        document = render(INSTRUCTIONS.sample(rng), rng)
        if document.prompt is not None and document.feedback and not document.earlier:
            count -= 1
            yield pieces(document.prompt), pieces(document.answer)


def pieces(of: Sequence[Piece]) -> Pieces:
    """Pieces of a rendered document, as texts and pictures."""
    return [piece if isinstance(piece, str) else np.asarray(piece.picture) for piece in of]


async def perplexity(
    backend: Backend, rng: random.Random, count: int, concurrency: int, advance: Callable[[], None]
) -> Perplexity:
    """Of the answers of true conversations.

    Args:
        backend: of the service.
        rng: samples the conversations.
        count: of conversations.
        concurrency: requests at the same time.
        advance: called after each.

    Raises:
        PromptError, ValueError: see :func:`answer_logprobs`.
        TypeError: the engine is not vLLM.
    """
    engine = backend.engine
    if not isinstance(engine, VLLMEngine):
        raise TypeError("only vLLM tells the log probabilities of a prompt")
    at_once = asyncio.Semaphore(concurrency)

    async def logprobs(number: int, prompt: Pieces, answer: Pieces) -> list[float]:
        async with at_once:
            found = await answer_logprobs(engine, backend.prompts, f"perplexity-{number}", prompt, answer)
        advance()
        return found

    tasks = [asyncio.create_task(logprobs(n, *turn)) for n, turn in enumerate(conversations(rng, count))]
    try:
        found = list(chain.from_iterable(await asyncio.gather(*tasks)))
    finally:
        await end(tasks)
    return Perplexity(len(found), math.exp(-math.fsum(found) / len(found)))
