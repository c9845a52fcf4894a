"""Where training begins: a language model, a vision tower and a diffusion model that know nothing of each other.

For the published sizes these are Vicuna, CLIP and Stable Diffusion 2.1, for the tiny model what its pre-training made;
both are read from folders in the layouts of transformers and diffusers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.dreamllm import DreamLLMConfig, DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.dreamllm.conversion.checkpoint import read_json
from models.dreamllm.conversion.tokenizer import convert_tokenizer
from models.dreamllm.conversion.tokens import SpecialTokens
from models.dreamllm.processing import DREAM_PLACEHOLDER, IMAGE_PLACEHOLDER, dream_query_tokens

DIFFUSION_FOLDER = "diffusion"
PAD = "[PAD]"
# In the order of their ids in the published checkpoint, behind the vocabulary of Vicuna.
NEW_TOKENS = (
    PAD,
    "<im_start>",
    "<dream_end>",
    "<dream_start>",
    "<im_patch>",
    "<im_end>",
    IMAGE_PLACEHOLDER,
    DREAM_PLACEHOLDER,
)


@dataclass(frozen=True, slots=True)
class DreamLLM:
    """All sides of a model: what a checkpoint folder holds."""

    model: DreamLLMForConditionalGeneration
    processor: DreamLLMProcessor
    decoder: DiffusionDecoder

    @classmethod
    def from_pretrained(cls, folder: Path) -> "DreamLLM":
        """Load a checkpoint in float32, on the CPU.

        Raises:
            OSError: a file is missing.
        """
        return cls(
            DreamLLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32),
            DreamLLMProcessor.from_pretrained(folder),
            DiffusionDecoder.from_pretrained(folder / DIFFUSION_FOLDER, dtype=torch.float32),
        )

    def save_pretrained(self, folder: Path, dtype: torch.dtype) -> None:
        """Write a checkpoint folder that the service loads. The modules are left on the CPU, in that dtype."""
        self.model.to("cpu", dtype).save_pretrained(folder)
        self.processor.save_pretrained(folder)
        for module in self.decoder.modules.values():
            module.to("cpu", dtype)
        self.decoder.save_pretrained(folder / DIFFUSION_FOLDER)


def assemble(
    language: Path, vision: Path, diffusion: Path, num_dream_queries: int, sampling: SamplingDefaults
) -> DreamLLM:
    """Join three models by projectors, dream queries and control tokens that are untrained.

    Args:
        language: folder of a Llama and its tokenizer.
        vision: folder of a CLIP, or of its vision tower, and its image processor.
        diffusion: folder of a Stable Diffusion: ``unet``, ``vae``, ``scheduler``.
        num_dream_queries: 64 in the paper.
        sampling: how the checkpoint's pictures are drawn when a request does not say.

    Raises:
        OSError: a file is missing.
        ValueError: the tokenizer lacks a token and cannot be extended.
    """
    llama = LlamaForCausalLM.from_pretrained(language, dtype=torch.float32)
    tower = CLIPVisionModel.from_pretrained(vision, dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(diffusion, subfolder="unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(diffusion, subfolder="vae", torch_dtype=torch.float32)
    tokenizer = dream_tokenizer(language, num_dream_queries)
    config = dream_config(llama.config, tower.config, tokenizer, num_dream_queries)
    model = DreamLLMForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    fill(model.model.language_model, llama.model)
    fill(model.lm_head, llama.lm_head)
    model.generation_config.update(
        **{name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    )
    projector = ConditionProjector(config.text_config.hidden_size, unet.config.cross_attention_dim)
    scheduler_config = DDPMScheduler.load_config(diffusion, subfolder="scheduler")
    processor = DreamLLMProcessor(
        CLIPImageProcessorPil.from_pretrained(vision),
        tokenizer,
        num_image_tokens=config.num_image_tokens,
        num_dream_queries=num_dream_queries,
        chat_template=tokenizer.chat_template,
    )
    return DreamLLM(model, processor, DiffusionDecoder(projector, unet, vae, scheduler_config, sampling))


def dream_tokenizer(folder: Path, num_dream_queries: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a language model with control tokens and dream queries.

    A sentencepiece model, as Vicuna has, is extended as the official code does; any other must have them already.

    Raises:
        ValueError: it has not.
    """
    queries = dream_query_tokens(num_dream_queries)
    model_file = folder / "tokenizer.model"
    if model_file.is_file():
        settings = read_json(folder / "tokenizer_config.json")
        size = read_json(folder / "config.json")["vocab_size"]
        added = [*NEW_TOKENS, *queries]
        ids = {"<unk>": 0, "<s>": 1, "</s>": 2, **dict(zip(added, range(size, size + len(added)), strict=True))}
        special = {name: ids[name] for name in ids if name not in queries}
        tokens = SpecialTokens(special, bos="<s>", eos="</s>", unk="<unk>", pad=PAD)
        return convert_tokenizer(model_file, settings, tokens, {name: ids[name] for name in queries})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    missing = {*NEW_TOKENS, *queries} - {IMAGE_PLACEHOLDER, DREAM_PLACEHOLDER} - tokenizer.get_vocab().keys()
    if missing:
        raise ValueError(f"the tokenizer in {folder} lacks {', '.join(sorted(missing))}")
    return tokenizer


def dream_config(llama: Any, clip: Any, tokenizer: PreTrainedTokenizerFast, num_dream_queries: int) -> DreamLLMConfig:
    """The configuration of a model joined from a Llama and a CLIP tower."""
    token = tokenizer.convert_tokens_to_ids
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    first = token(dream_query_tokens(1)[0])
    text = {**llama.to_dict(), **ids, "vocab_size": first + num_dream_queries, "tie_word_embeddings": False}
    return DreamLLMConfig(
        text_config=text,
        vision_config=clip,
        dream_token_id=token("<dream_start>"),
        dream_end_token_id=token("<dream_end>"),
        dream_query_token_id=first,
        num_dream_queries=num_dream_queries,
        image_start_token_id=token("<im_start>"),
        image_end_token_id=token("<im_end>"),
        image_token_id=token("<im_patch>"),
        **ids,
    )


@torch.no_grad()
def fill(target: nn.Module, source: nn.Module) -> None:
    """Copy weights. Where the target has more rows, for new tokens, those stay as they are."""
    weights = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        parameter[: len(weights[name])] = weights[name]
