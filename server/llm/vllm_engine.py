"""The language model: vLLM's ``AsyncLLM`` behind :class:`~server.llm.engine.LLMEngine`.

vLLM runs its scheduler and its workers in processes of their own. This one holds the client: it sends prompts, streams
tokens, and fetches dream states from the workers.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from vllm import RequestOutput, SamplingParams, TokensPrompt
from vllm.exceptions import VLLMError
from vllm.inputs import EngineInput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError as VLLMEngineDeadError

from models.dreamllm import DreamLLMConfig
from models.vllm_plugin import register
from models.vllm_plugin.dream_capture import CAPTURE_ARG, DreamCaptureWorkerExtension
from server.llm.dream_cache import DreamStateCache
from server.llm.engine import EngineDeadError, EngineError, EngineLoad, Priority, Prompt, Sampling, TokenChunk
from server.llm.vllm_arguments import engine_config
from server.llm.vllm_load import LatestLoad
from server.llm.vllm_processes import inheritance
from server.llm.vllm_sampling import check_sampling, sampling_params, token_logprobs
from server.settings import LLMSettings, LogFormat

DISCARD_LIMIT_S = 10
PRIORITIES: dict[Priority, int] = {"normal": 0, "high": -1}
"""As vLLM counts them: the smaller goes first, and is preempted last."""

logger = logging.getLogger(__name__)


class VLLMEngine:
    """See :class:`~server.llm.engine.LLMEngine`.

    Attributes:
        llm: the client of vLLM, for what the protocol does not cover.
        dream_cache: recent dream states.
    """

    def __init__(
        self, llm: AsyncLLM, tokenizer: PreTrainedTokenizerFast, dream_state_cache: int, latest_load: LatestLoad
    ) -> None:
        self.llm = llm
        self._latest_load = latest_load
        self.config: DreamLLMConfig = llm.model_config.hf_config
        self.tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self.chat_template = cast(str, tokenizer.chat_template)
        self.eos_token_id = cast(int, tokenizer.eos_token_id)
        self.max_model_len: int = llm.model_config.max_model_len
        self.kv_tokens = cast(int, llm.vllm_config.cache_config.kv_cache_size_tokens)
        empty_prompt = Prompt((cast(int, tokenizer.bos_token_id),))
        self.dream_cache = DreamStateCache(dream_state_cache, permanent=empty_prompt)

    @classmethod
    async def start(cls, checkpoint: Path, settings: LLMSettings, log_format: LogFormat = "text") -> Self:
        """Load the checkpoint and start vLLM's processes. Takes some 20 seconds; the event loop stays free.

        Args:
            checkpoint: its folder.
            settings: of vLLM.
            log_format: of the lines that vLLM logs.

        Raises:
            EngineError: vLLM did not start, or the checkpoint is not one that it can serve.
        """
        return await asyncio.to_thread(cls._start, checkpoint, settings, log_format)

    @classmethod
    def _start(cls, checkpoint: Path, settings: LLMSettings, log_format: LogFormat) -> Self:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        for name in ("bos_token_id", "eos_token_id", "chat_template"):
            if getattr(tokenizer, name) is None:
                raise EngineError(f"the tokenizer of {checkpoint} has no {name}")
        register()
        logging.getLogger("vllm").setLevel(settings.log_level)
        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
        latest_load = LatestLoad()
        with inheritance(settings, log_format):
            try:
                config = engine_config(checkpoint, settings)
                llm = AsyncLLM.from_vllm_config(config, stat_loggers=[lambda *_: latest_load])
            except (RuntimeError, ValueError, OSError, VLLMError) as error:
                raise EngineError(f"vLLM did not start: {error}") from error
        return cls(llm, tokenizer, settings.dream_state_cache, latest_load)

    async def shutdown(self) -> None:
        """Stop vLLM's processes. Requests that still run end with an :class:`EngineError`."""
        with suppress(VLLMError):
            await self.llm.pause_generation(mode="abort", clear_cache=False)
        if self.llm.output_handler is not None:
            # It would take the end of the processes for a crash.
            self.llm.output_handler.cancel()
        await asyncio.to_thread(self.llm.shutdown)

    def check(self, sampling: Sampling) -> None:
        """See :meth:`LLMEngine.check`."""
        check_sampling(sampling, self.llm.vllm_config, self.llm.tokenizer)

    async def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        """See :meth:`LLMEngine.generate`. A request aborted from elsewhere ends with an :class:`EngineError`."""
        with _engine_errors():
            params = sampling_params(sampling)
        async with aclosing(self._run(request_id, prompt, params, priority)) as outputs:
            async for output in outputs:
                completion = output.outputs[0]
                yield TokenChunk(
                    token_ids=tuple(completion.token_ids),
                    finish_reason=completion.finish_reason,
                    prompt_tokens=len(output.prompt_token_ids),
                    cached_tokens=output.num_cached_tokens or 0,
                    logprobs=token_logprobs(completion, sampling.logprobs),
                )

    async def dream_states(self, request_id: str, prompt: Prompt, priority: Priority = "normal") -> torch.Tensor:
        """See :meth:`LLMEngine.dream_states`. On the CPU, in the model's dtype; shared, so not to be written to."""
        states = self.dream_cache.get(prompt)
        if states is not None:
            return states
        dream = Prompt((*prompt.token_ids, *self.config.dream_block), prompt.images)
        for skip_prefix_cache in (False, True):
            states = await self._capture(request_id, dream, skip_prefix_cache, priority)
            if states is not None:
                self.dream_cache.put(prompt, states)
                return states
        raise EngineError(f"vLLM computed request {request_id} without capturing all of its dream states")

    async def abort(self, request_id: str) -> None:
        with _engine_errors():
            await self.llm.abort(request_id)

    def load(self) -> EngineLoad:
        """See :meth:`LLMEngine.load`."""
        # vLLM tells its load with what it sends. After requests that were aborted it sends nothing.
        return self._latest_load.load if self.llm.get_num_unfinished_requests() else EngineLoad()

    async def health(self) -> None:
        with _engine_errors():
            await self.llm.check_health()

    async def _capture(
        self, request_id: str, dream: Prompt, skip_prefix_cache: bool, priority: Priority
    ) -> torch.Tensor | None:
        """Run a context with its dream block once. None when the prefix cache spared vLLM some of the queries."""
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_reading_prefix_cache=skip_prefix_cache,
            extra_args={CAPTURE_ARG: request_id},
        )
        try:
            async with aclosing(self._run(request_id, dream, params, priority)) as outputs:
                async for _ in outputs:
                    pass
            return await self._take_states(request_id)
        except BaseException:
            # Cancelled or failed: nobody will come for what the worker has captured so far.
            await self._discard_states(request_id)
            raise

    async def _take_states(self, request_id: str) -> torch.Tensor | None:
        with _engine_errors():
            answers = await self._call_workers(DreamCaptureWorkerExtension.take_dream_states, request_id)
        for answer in answers:
            if answer is not None:
                dtype, shape, data = answer
                return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).view(*shape)
        return None

    async def _discard_states(self, request_id: str) -> None:
        try:
            async with asyncio.timeout(DISCARD_LIMIT_S):
                await self._call_workers(DreamCaptureWorkerExtension.discard_dream_states, request_id)
        except VLLMError:
            pass  # the workers are gone, and the states with them
        except TimeoutError:
            logger.error("vLLM's workers did not discard the states of %s in %d s", request_id, DISCARD_LIMIT_S)

    async def _call_workers(self, method: Any, *args: str) -> list[Any]:
        """Call a method of the worker extension on every worker; their answers by rank."""
        return cast(list[Any], await self.llm.collective_rpc(method.__name__, args=args))

    async def _run(
        self, request_id: str, prompt: Prompt, params: SamplingParams, priority: Priority = "normal"
    ) -> AsyncGenerator[RequestOutput, None]:
        placeholders = prompt.token_ids.count(self.config.image_token_id)
        if placeholders != len(prompt.images):
            raise EngineError(f"the prompt has {placeholders} image tokens for {len(prompt.images)} pictures")
        tokens = TokensPrompt(prompt_token_ids=list(prompt.token_ids))
        if prompt.images:
            tokens["multi_modal_data"] = {"image": [image.pixels for image in prompt.images]}
            tokens["multi_modal_uuids"] = {"image": [image.id for image in prompt.images]}
        with _engine_errors():
            rendered = await self._render(tokens)
            request = self.llm.generate(rendered, params, request_id, priority=PRIORITIES[priority])
            async with aclosing(request) as outputs:
                async for output in outputs:
                    reason = output.outputs[0].finish_reason
                    if reason not in (None, "stop", "length"):
                        raise EngineError(f"vLLM ended request {request_id}: {reason}")
                    yield output

    async def _render(self, tokens: TokensPrompt) -> EngineInput:
        """Preprocess the pictures, in a thread of vLLM's, and put their patches into the prompt."""
        try:
            (rendered,) = await self.llm.renderer.render_cmpl_async([tokens])
        except ValueError as error:
            raise EngineError(f"vLLM refused the prompt: {error}") from error
        return rendered


@contextmanager
def _engine_errors() -> Iterator[None]:
    """vLLM's errors as ours."""
    try:
        yield
    except VLLMEngineDeadError as error:
        raise EngineDeadError("vLLM's engine process has died") from error
    except VLLMError as error:
        raise EngineError(str(error.__cause__ or error)) from error
