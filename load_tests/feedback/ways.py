"""Two ways to go on after a picture, on the same engine by turns.

**Sent again**: the request before the picture has ended; the whole context with the picture is a new one, of which the
prefix cache has the full blocks, those of the dream block included. This is what the server does.

**Parked**: one request takes its prompt in pieces (vLLM's ``StreamingInput``). While the picture is drawn it waits with
all its KV blocks held. vLLM drops the last token that it sampled, which was the dream token, so the next piece is the
dream block and the picture. The dream states come from a request beside it in both ways: the connector that captures
them knows requests by their start.

Both are timed from the picture to the next token, of contexts of several lengths: first with room in the KV cache, then
with so many other tokens computed while the picture is drawn that the cache has to forget what nobody holds.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from PIL import Image as PILImages
from vllm import TokensPrompt
from vllm.engine.protocol import StreamingInput

from load_tests.results import Results, Series
from server.llm.engine import Prompt, PromptImage, Sampling
from server.llm.vllm_engine import VLLMEngine
from server.llm.vllm_sampling import sampling_params

SAMPLED = 24
"""Tokens of text between two pictures, the dream token included."""
OTHERS_LENGTH = 1024
"""Tokens of each of the requests that push others out of the KV cache."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How one answer went on after its picture.

    Attributes:
        seconds: to its next token.
        computed: prompt tokens for it.
        next_token: itself.
    """

    seconds: float
    computed: int
    next_token: int


class Answers:
    """Makes answers with one picture in either way.

    Args:
        engine: of which nothing else is asked meanwhile.
        seed: of the texts and pictures.
    """

    def __init__(self, engine: VLLMEngine, seed: int) -> None:
        self._engine = engine
        self._dice = random.Random(seed)
        self._words = sorted(set(range(4, engine.config.dream_query_token_id)) - engine.config.control_token_ids)
        self._numbers: Iterator[int] = count()
        queries = engine.config.dream_query_token_ids
        self._sampling = Sampling(
            max_tokens=SAMPLED, temperature=0.0, banned_token_ids=(*engine.config.control_token_ids, *queries)
        )

    async def sent_again(self, length: int, others: int) -> Resumption:
        """An answer to a prompt of some length, while ``others`` tokens of other prompts are computed."""
        engine, number = self._engine, next(self._numbers)
        context = self._text(length)
        async with aclosing(engine.generate(f"again-{number}", Prompt(context), self._sampling)) as chunks:
            context += tuple([token_id async for chunk in chunks for token_id in chunk.token_ids][:-1])
        await engine.dream_states(f"again-{number}-dream", Prompt(context))
        context += tuple(engine.config.dream_block)
        await self._compute_others(others)
        image = self._picture()
        began = time.perf_counter()
        prompt = Prompt((*context, *engine.config.image_block), (image,))
        async with aclosing(engine.generate(f"again-{number}-on", prompt, self._sampling)) as chunks:
            chunk = await anext(chunks)
            seconds = time.perf_counter() - began
        return Resumption(seconds, chunk.prompt_tokens - chunk.cached_tokens, chunk.token_ids[0])

    async def parked(self, length: int, others: int) -> Resumption:
        """The same, by one request that waits for its picture."""
        engine, number = self._engine, next(self._numbers)
        prompt = self._text(length)
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        params = sampling_params(self._sampling)

        async def inputs() -> AsyncGenerator[StreamingInput, None]:
            while True:
                yield StreamingInput(await pieces.get())

        pieces.put_nowait(await self._rendered(prompt))
        async with aclosing(engine.llm.generate(inputs(), params, f"parked-{number}")) as outputs:
            sampled: list[int] = []
            while len(sampled) < SAMPLED:
                sampled += (await anext(outputs)).outputs[0].token_ids
            await engine.dream_states(f"parked-{number}-dream", Prompt((*prompt, *sampled[:-1])))
            await self._compute_others(others)
            image = self._picture()
            began = time.perf_counter()
            piece = (*engine.config.dream_block, *engine.config.image_block)
            pieces.put_nowait(await self._rendered(piece, image))
            while not (following := (await anext(outputs)).outputs[0].token_ids):
                pass
            seconds = time.perf_counter() - began
        # vLLM computes all of a piece, and of what it holds nothing.
        return Resumption(seconds, len(piece) - 1 + engine.config.num_image_tokens, following[0])

    def _text(self, length: int) -> tuple[int, ...]:
        """A prompt that the cache does not know."""
        return tuple(self._dice.choices(self._words, k=length))

    def _picture(self) -> PromptImage:
        side = self._engine.config.vision_config.image_size
        pixels = np.frombuffer(self._dice.randbytes(side * side * 3), np.uint8).reshape(side, side, 3)
        return PromptImage.of(PILImages.fromarray(pixels))

    async def _rendered(self, token_ids: tuple[int, ...], image: PromptImage | None = None) -> Any:
        tokens = TokensPrompt(prompt_token_ids=list(token_ids))
        if image is not None:
            tokens["multi_modal_data"] = {"image": [image.pixels]}
            tokens["multi_modal_uuids"] = {"image": [image.id]}
        (rendered,) = await self._engine.llm.renderer.render_cmpl_async([tokens])
        return rendered

    async def _compute_others(self, tokens: int) -> None:
        """Have that many tokens of prompts computed that nobody asks for again."""
        one = Sampling(max_tokens=1, temperature=0.0, banned_token_ids=self._sampling.banned_token_ids)
        for _ in range(-(-tokens // OTHERS_LENGTH)):
            prompt = Prompt(self._text(OTHERS_LENGTH))
            async with aclosing(self._engine.generate(f"other-{next(self._numbers)}", prompt, one)) as chunks:
                async for _ in chunks:
                    pass


async def measure(results: Results, engine: VLLMEngine, lengths: tuple[int, ...], rounds: int) -> None:
    """Measure both by turns, and report."""
    answers = Answers(engine, seed=0)
    ways = {"sent again": answers.sent_again, "parked": answers.parked}
    rows = []
    p50s: dict[tuple[str, str], list[float]] = {}
    for pressure, others in (("room", 0), ("pressure", 2 * engine.kv_tokens)):
        for length in lengths:
            taken: dict[str, list[Resumption]] = {name: [] for name in ways}
            for number in range(rounds):
                for name in reversed(ways) if number % 2 else ways:
                    taken[name].append(await ways[name](length, others))
            for name, resumptions in taken.items():
                p50, p90 = 1000 * np.percentile([each.seconds for each in resumptions], [50, 90])
                computed = float(np.mean([each.computed for each in resumptions]))
                held = length + SAMPLED if name == "parked" else 0
                rows.append((pressure, length, name, computed, p50, p90, held))
                p50s.setdefault((pressure, name), []).append(p50)
    results.table(
        "From a picture to the next token",
        ("KV cache", "prompt", "way", "tokens computed", "p50, ms", "p90, ms", "KV tokens held while it is drawn"),
        rows,
    )
    series = [
        Series(f"{name}, {pressure}", tuple(map(float, lengths)), tuple(values))
        for (pressure, name), values in p50s.items()
    ]
    results.plot("Feedback: from a picture to the next token", "prompt tokens", "p50, ms", series)
