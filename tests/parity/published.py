"""The published 7B checkpoint as far as it is known without having it: its configuration, no weights.

Vicuna-7B v1.1 with eight added tokens, CLIP ViT-L/14 at 224 pixels, Stable Diffusion 2.1-base, 64 queries, linear
projectors: sizes from the papers and the model cards, the layout from the official code.
"""

import json
import shutil
from pathlib import Path

from tests.parity.converted import CHECKPOINT

LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32008,
    "torch_dtype": "bfloat16",
}
CLIP_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
    "model_type": "clip_vision_model",
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 768,
}


def write_published(folder: Path) -> Path:
    """Write its configuration files, with the fixture's tokens moved to the ids behind a vocabulary of 32000."""
    (folder / "clip").mkdir(parents=True)
    config = json.loads((CHECKPOINT / "config.json").read_text()) | LLAMA
    tokens = config["special_tokens2ids_dict"]
    tokens["[PAD]"] += 31600
    additional = tokens["additional_special_tokens"]
    tokens["additional_special_tokens"] = {token: token_id + 31600 for token, token_id in additional.items()}
    plugins = config["plugins_init_kwargs"]
    plugins["clip_vision_embedding"]["clip_vision_model_name_or_path"] = "clip"
    plugins["stable_diffusion_head"]["diffusion_name_or_path"] = "sd"
    plugins["dream_embedding"]["num_dream_queries"] = 64
    write_json(folder / "config.json", config)
    write_json(folder / "clip" / "config.json", {"model_type": "clip", "vision_config": CLIP_VISION})
    shutil.copy(CHECKPOINT / "hub/tiny-clip-a/preprocessor_config.json", folder / "clip")
    write_json(folder / "sd" / "unet" / "config.json", UNET)
    write_json(folder / "sd" / "vae" / "config.json", VAE)
    shutil.copytree(CHECKPOINT / "hub/tiny-sd-a/scheduler", folder / "sd" / "scheduler")
    # Only their names count: nothing of them is read.
    for name in ("model.safetensors", "dream_embedding.bin", "clip_vision_embedding.bin", "stable_diffusion_head.bin"):
        (folder / name).touch()
    (folder / "tokenizer.model").touch()
    return folder


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
