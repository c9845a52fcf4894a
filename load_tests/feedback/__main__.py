"""``python -m load_tests.feedback``: what it costs to show the model its pictures, and whether to park requests.

Real vLLM with the embedded checkpoint, over a pool that draws at once. After a picture the server sends the whole
context again. What the prefix cache has of it is told by vLLM for each request; beside the picture's own tokens, which
are new, no more than what a KV block holds should have to be computed.

The other way is a request that is parked while its picture is drawn (vLLM's ``StreamingInput``), which keeps its KV
blocks meanwhile. Both are timed on the same contexts by turns, from the picture to the next token: with room in the KV
cache, and while other requests compute twice as many tokens as it holds before the picture is there.
"""

import asyncio
from dataclasses import dataclass

import torch

from load_tests.feedback import recomputed, ways
from load_tests.results import Results, arguments_of
from load_tests.service.threads import vllm_threads
from server.llm.vllm_engine import VLLMEngine
from server.settings import DEFAULT_CHECKPOINT, LLMSettings


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        documents: with pictures, one at a time and then all at once.
        lengths: of the prompts of answers that are sent again or parked.
        rounds: by turns.
    """

    documents: int
    lengths: tuple[int, ...]
    rounds: int


FULL = Scale(documents=12, lengths=(64, 256, 1024), rounds=25)
QUICK = Scale(documents=3, lengths=(512,), rounds=1)
KV_CACHE_GIB = 0.03
"""Some 7,800 tokens in float16: a few prompts fill it."""


def main() -> None:
    """Measure and print."""
    arguments = arguments_of("feedback", __doc__).parse_args()
    results = Results("feedback")
    asyncio.run(measure(results, QUICK if arguments.quick else FULL))
    results.write(arguments.json)


async def measure(results: Results, scale: Scale) -> None:
    """Start vLLM and measure on it."""
    settings = LLMSettings(kv_cache_gib=KV_CACHE_GIB)
    engine = await VLLMEngine.start(DEFAULT_CHECKPOINT, settings)
    try:
        block_size = int(engine.llm.vllm_config.cache_config.block_size)
        results.describe(
            torch.device(engine.llm.vllm_config.device_config.device),
            vllm_threads(settings),
            f"vLLM on {DEFAULT_CHECKPOINT.name}, KV cache of {engine.kv_tokens} tokens in blocks of {block_size}",
            f"{scale.rounds} rounds by turns",
        )
        await recomputed.measure(results, engine, block_size, scale.documents)
        await ways.measure(results, engine, scale.lengths, scale.rounds)
    finally:
        await engine.shutdown()


if __name__ == "__main__":
    main()
