"""The model that vLLM must agree with, and the prompts on which it must."""

from pathlib import Path

import torch
from PIL import Image as PILImages
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from server.llm.engine import Prompt, PromptImage
from server.llm.vllm_engine import VLLMEngine


class Reference:
    """The same checkpoint in transformers, float32."""

    def __init__(self, checkpoint: Path) -> None:
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
        assert isinstance(model, DreamLLMForConditionalGeneration)
        self.model = model.eval()
        self.processor: DreamLLMProcessor = AutoProcessor.from_pretrained(checkpoint)

    def inputs(self, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Ids with the pictures expanded, ``[length]``, and their pixels."""
        config = self.model.config
        ids: list[int] = []
        for token in prompt.token_ids:
            ids += [token] * (config.num_image_tokens if token == config.image_token_id else 1)
        if not prompt.images:
            return torch.tensor(ids), None
        pictures = [image.pixels for image in prompt.images]
        return torch.tensor(ids), self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]

    def dream_states(self, prompt: Prompt) -> torch.Tensor:
        states: torch.Tensor = self.model.dream_states(*self.inputs(prompt))
        return states

    @torch.inference_mode()
    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        ids, pixels = self.inputs(prompt)
        length = len(ids)
        for _ in range(max_tokens):
            logits = self.model(input_ids=ids.unsqueeze(0), pixel_values=pixels, logits_to_keep=1).logits
            ids = torch.cat([ids, logits[0, -1].argmax().unsqueeze(0)])
        return ids[length:].tolist()


def picture(seed: int) -> PromptImage:
    """Noise that has to be resized and cropped."""
    pixels = torch.randint(0, 256, (40, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return PromptImage(f"picture-{seed}", PILImages.fromarray(pixels.numpy()))


def write_prompt(engine: VLLMEngine, *parts: str | PromptImage) -> Prompt:
    """A context of texts and pictures."""
    ids = [engine.config.text_config.bos_token_id]
    for part in parts:
        if isinstance(part, PromptImage):
            ids += engine.config.image_block
        else:
            ids += engine.tokenizer.encode(part, add_special_tokens=False).ids
    return Prompt(tuple(ids), tuple(part for part in parts if isinstance(part, PromptImage)))


def random_prompt(length: int, seed: int) -> Prompt:
    """A context of so many tokens of text, like no other."""
    letters = torch.randint(261, 355, (length - 1,), generator=torch.Generator().manual_seed(seed))
    return Prompt((1, *letters.tolist()))


async def count_waiting_states(engine: VLLMEngine) -> int:
    """Captured dream states that wait in the workers."""
    return sum(await engine.llm.collective_rpc("count_dream_states"))
