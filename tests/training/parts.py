"""Models to begin with, small and untrained, in the layouts in which Vicuna, CLIP and Stable Diffusion come."""

import shutil
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from transformers import LlamaConfig, LlamaForCausalLM

from models.dreamllm import DreamLLMConfig, DreamLLMProcessor
from models.training.assembly import dream_config
from models.training.pictures import image_processor
from models.training.pretrain.autoencoder import build_autoencoder
from models.training.pretrain.denoiser import SCHEDULER_CONFIG, build_unet
from models.training.pretrain.text import NUM_DREAM_QUERIES, build_llama, build_processor
from models.training.pretrain.vision import build_vision
from models.training.tokenizer import train_tokenizer
from models.training.world import RESOLUTION
from tests.parity.converted import CHECKPOINT


def tiny_processor() -> DreamLLMProcessor:
    return build_processor(train_tokenizer(0, NUM_DREAM_QUERIES))


def tiny_config(processor: DreamLLMProcessor) -> DreamLLMConfig:
    llama = build_llama(processor.tokenizer)
    return dream_config(llama.config, build_vision().config, processor.tokenizer, NUM_DREAM_QUERIES)


def write_tiny_parts(work: Path) -> Path:
    """What the pre-training of the tiny model writes, untrained."""
    torch.manual_seed(0)
    processor = tiny_processor()
    build_llama(processor.tokenizer).save_pretrained(work / "language")
    processor.tokenizer.save_pretrained(work / "language")
    build_vision().save_pretrained(work / "vision")
    image_processor(RESOLUTION).save_pretrained(work / "vision")
    build_unet().save_pretrained(work / "diffusion" / "unet")
    build_autoencoder().save_pretrained(work / "diffusion" / "vae")
    DDPMScheduler.from_config(SCHEDULER_CONFIG).save_pretrained(work / "diffusion" / "scheduler")
    return work


def write_vicuna_like_parts(work: Path) -> Path:
    """What the published sizes begin with: a Llama with a sentencepiece model, a CLIP, a Stable Diffusion."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=400, max_position_embeddings=2048, **sizes)
    LlamaForCausalLM(config).save_pretrained(work / "vicuna-7b-v1.1")
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, work / "vicuna-7b-v1.1")
    shutil.copytree(CHECKPOINT / "hub" / "tiny-clip-a", work / "clip-vit-large-patch14")
    shutil.copytree(CHECKPOINT / "hub" / "tiny-sd-a", work / "stable-diffusion-2-1-base")
    return work
