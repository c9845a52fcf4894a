"""``python -m load_tests.answers.plain``: the program that one would write without a server. One request at a time.

transformers' ``generate`` writes text until the dream token, a forward pass gives the dream states, a loop over a
diffusers scheduler draws the picture, and the context with the picture goes into ``generate`` again.

It reads prompts from its standard input, JSON strings line by line, and answers each with a line of JSON: what it
counted of the answer. The first line that it writes, ``ready``, is before any.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image as PILImages
from transformers import AutoTokenizer, CLIPImageProcessorPil

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.description import SamplingDefaults
from models.dreamllm import DreamLLMForConditionalGeneration
from server.settings import DEFAULT_CHECKPOINT

READY = "ready"
SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}


class PlainProgram:
    """A DreamLLM without a server.

    Args:
        checkpoint: folder.
    """

    def __init__(self, checkpoint: Path) -> None:
        diffusion = checkpoint / "diffusion"
        self.model = DreamLLMForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.image_processor = CLIPImageProcessorPil.from_pretrained(checkpoint)
        self.projector = ConditionProjector.from_pretrained(diffusion / "condition_projector").eval()
        self.unet = UNet2DConditionModel.from_pretrained(diffusion / "unet", torch_dtype=torch.float32).eval()
        self.vae = AutoencoderKL.from_pretrained(diffusion / "vae", torch_dtype=torch.float32).eval()
        self.sampling = SamplingDefaults(**json.loads((diffusion / "sampling_defaults.json").read_text()))
        self.scheduler = SCHEDULERS[self.sampling.scheduler].from_pretrained(diffusion / "scheduler")
        self.empty_prompt = self.model.dream_states(torch.tensor([self.model.config.text_config.bos_token_id]))

    @torch.inference_mode()
    def answer(self, prompt: str, max_tokens: int, max_images: int) -> dict[str, int]:
        """Write and draw an answer, greedily. Returns how many tokens were sampled and pictures drawn."""
        config = self.model.config
        messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        ids: list[int] = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        pictures: list[PILImages.Image] = []
        tokens = 0
        while tokens < max_tokens:
            written = self.write(ids, pictures, max_tokens - tokens, dreams=len(pictures) < max_images)
            tokens += len(written)
            if written[-1] != config.dream_token_id:
                break
            ids += written[:-1]
            pictures.append(self.draw(self.model.dream_states(torch.tensor(ids), self.pixels(pictures))))
            ids += config.dream_block
            ids += [config.image_start_token_id, *[config.image_token_id] * config.num_image_tokens]
            ids += [config.image_end_token_id]
        return {"tokens": tokens, "images": len(pictures)}

    def write(self, ids: Sequence[int], pictures: Sequence[PILImages.Image], limit: int, dreams: bool) -> list[int]:
        """Sample until EOS, the dream token, or a limit."""
        config, inputs = self.model.config, torch.tensor([ids])
        pixels = self.pixels(pictures)
        features = None if pixels is None else self.model.model.get_image_features(pixels)
        ends = [config.eos_token_id, config.dream_token_id]
        output = self.model.generate(
            inputs_embeds=self.model.model.embed(inputs, features),
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=limit,
            do_sample=False,
            temperature=None,
            eos_token_id=ends,
            suppress_tokens=None if dreams else [config.dream_token_id],
        )
        written: list[int] = output[0].tolist()
        return written

    def draw(self, states: torch.Tensor) -> PILImages.Image:
        """Draw a picture of dream states ``[queries, hidden]``, with classifier-free guidance."""
        condition = self.projector(torch.stack([self.empty_prompt, states]))
        side, scale = self.unet.config.sample_size, self.sampling.guidance_scale
        latents = torch.randn(1, self.unet.config.in_channels, side, side)
        self.scheduler.set_timesteps(self.sampling.steps)
        for timestep in self.scheduler.timesteps:
            prediction = self.unet(torch.cat([latents, latents]), timestep, encoder_hidden_states=condition).sample
            unconditional, conditional = prediction.chunk(2)
            guided = unconditional + scale * (conditional - unconditional)
            latents = self.scheduler.step(guided, timestep, latents).prev_sample
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        return PILImages.fromarray(pixels.numpy())

    def pixels(self, pictures: Sequence[PILImages.Image]) -> torch.Tensor | None:
        """Pictures as the vision tower reads them."""
        if not pictures:
            return None
        pixels: torch.Tensor = self.image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        return pixels


def main() -> None:
    """Answer prompts until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.answers.plain", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--max-images", type=int, required=True)
    arguments = parser.parse_args()
    program = PlainProgram(arguments.checkpoint)
    program.answer("Hello.", max_tokens=2, max_images=0)
    print(READY, flush=True)
    for line in sys.stdin:
        answer = program.answer(json.loads(line), arguments.max_tokens, arguments.max_images)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
