"""Random checkpoints in the official layout, of other shapes than the recorded one, and the same model beside them.

The model is put together here from transformers' and diffusers' own modules, with the official names and without any
code of the converter, so that it can be compared with what comes out of the conversion.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from tests.parity.converted import CHECKPOINT

POOLED_DIM = 20
XL_CONDITIONS = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": POOLED_DIM + 6 * 8,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """What is special about a checkpoint.

    Attributes:
        kv_heads: key and value heads, of 4.
        projector_depth: linear layers of the vision projector.
        condition_depth: linear layers of the condition projector.
        post_layernorm: a layer norm behind the vision projector.
        queries: dream queries.
        image_size: of CLIP, with patches of 14.
        vae_blocks: each but one halves the picture.
        attention_bias: of the language model.
        id_order: the eight added tokens, in the order of their ids.
        spare_rows: rows of the embeddings that no token has.
        xl: draws with Stable Diffusion XL.
    """

    kv_heads: int = 4
    projector_depth: int = 1
    condition_depth: int = 1
    post_layernorm: bool = False
    queries: int = 8
    image_size: int = 56
    vae_blocks: int = 3
    attention_bias: bool = False
    id_order: tuple[str, ...] = (
        "[PAD]",
        "<im_start>",
        "<dream_end>",
        "<dream_start>",
        "<im_patch>",
        "<im_end>",
        "<image>",
        "<dream>",
    )
    spare_rows: int = 0
    xl: bool = False


@dataclass(frozen=True, slots=True)
class OfficialModel:
    """The modules of a variant."""

    language_model: LlamaForCausalLM
    clip: CLIPVisionModel
    projector: nn.Sequential
    post_layernorm: nn.Module
    queries: torch.Tensor
    condition_projector: nn.Sequential
    pooled_projector: nn.Sequential
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    ids: Mapping[str, int]

    @torch.inference_mode()
    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """``[images, patches, hidden]``."""
        states = self.clip(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]
        features: torch.Tensor = self.post_layernorm(self.projector(states))
        return features

    @torch.inference_mode()
    def dream_states(self, text_ids: list[int], pixel_values: torch.Tensor) -> torch.Tensor:
        """States of the queries behind ``<s>``, a picture and a text."""
        embed = self.language_model.get_input_embeddings()

        def tokens(*names: str) -> torch.Tensor:
            embedded: torch.Tensor = embed(torch.tensor([self.ids[name] for name in names]))
            return embedded

        sequence = torch.cat(
            [
                tokens("<s>", "<im_start>"),
                self.image_features(pixel_values)[0],
                tokens("<im_end>"),
                embed(torch.tensor(text_ids)),
                tokens("<dream_start>"),
                self.queries[0],
                tokens("<dream_end>"),
            ]
        )
        states = self.language_model.model(inputs_embeds=sequence.unsqueeze(0)).last_hidden_state
        result: torch.Tensor = states[0, -1 - self.queries.shape[1] : -1]
        return result


def write_variant(folder: Path, variant: Variant, seed: int = 0) -> OfficialModel:
    """Write a checkpoint."""
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.bin", "*.safetensors", "hub"))
    torch.manual_seed(seed)
    config = json.loads((CHECKPOINT / "config.json").read_text())
    first = 400
    ids = {token: first + i for i, token in enumerate(variant.id_order)} | {"<unk>": 0, "<s>": 1, "</s>": 2}
    model = _random_model(variant, config["hidden_size"], first + len(variant.id_order) + variant.spare_rows, ids)
    _write_weights(folder, model, variant.xl)
    _write_hub(folder / "hub", model)
    _write_tokens(folder, ids)
    plain = {token: ids[token] for token in ("<unk>", "<s>", "</s>", "[PAD]")}
    additional = {token: token_id for token, token_id in ids.items() if token not in plain}
    plugins = config["plugins_init_kwargs"]
    plugins["dream_embedding"]["num_dream_queries"] = variant.queries
    plugins["clip_vision_embedding"] |= {
        "clip_vision_model_name_or_path": "hub/clip",
        "projector_type": "linear" if variant.projector_depth == 1 else "mlp",
        "projector_depth": variant.projector_depth,
        "use_additional_post_layernorm": variant.post_layernorm,
    }
    plugins["stable_diffusion_head"] |= {
        "diffusion_name_or_path": "hub/sd",
        "projector_type": "linear" if variant.condition_depth == 1 else "mlp",
        "projector_depth": variant.condition_depth,
    }
    if variant.xl:
        plugins["stable_diffusion_head"]["_target_"] = (
            "omni.models.dreamllm_sdxl.modeling_plugins.StableDiffusionXLHead"
        )
    config |= {
        "num_key_value_heads": variant.kv_heads,
        "attention_bias": variant.attention_bias,
        "vocab_size": model.language_model.config.vocab_size,
        "special_tokens2ids_dict": plain | {"additional_special_tokens": additional},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return model


def _random_model(variant: Variant, hidden: int, vocab_size: int, ids: Mapping[str, int]) -> OfficialModel:
    llama = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=172,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=variant.kv_heads,
        max_position_embeddings=512,
        attention_bias=variant.attention_bias,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=variant.image_size,
        patch_size=14,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=4,
        **(XL_CONDITIONS if variant.xl else {}),
    )
    widths = (4, 8, 8, 8)[: variant.vae_blocks]
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        norm_num_groups=2,
    )
    modules = {
        "language_model": LlamaForCausalLM(llama),
        "clip": CLIPVisionModel(vision),
        "projector": _projector(32, hidden, variant.projector_depth, bias=True),
        "post_layernorm": nn.LayerNorm(hidden, eps=vision.layer_norm_eps) if variant.post_layernorm else nn.Identity(),
        "condition_projector": _projector(hidden, 24, variant.condition_depth, bias=False),
        "pooled_projector": _projector(hidden, POOLED_DIM, variant.condition_depth, bias=True),
        "unet": unet,
        "vae": vae,
    }
    for module in modules.values():
        module.eval().requires_grad_(False)
        for parameter in module.parameters():
            # Wide, biases and norms too: a weight in the wrong place must show.
            parameter.normal_(std=0.3)
    return OfficialModel(**modules, queries=torch.randn(1, variant.queries, hidden), ids=ids)


def _projector(in_features: int, out_features: int, depth: int, bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(in_features, out_features, bias=bias)]
    for _ in range(1, depth):
        layers += [nn.GELU(), nn.Linear(out_features, out_features, bias=bias)]
    return nn.Sequential(*layers)


def _write_weights(folder: Path, model: OfficialModel, xl: bool) -> None:
    save_file(dict(model.language_model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    torch.save({"dream_queries": model.queries}, folder / "dream_embedding.bin")
    torch.save(
        _named("clip_vision_model.vision_model", model.clip)
        | _named_projector("projector", model.projector)
        | _named("post_layernorm", model.post_layernorm),
        folder / "clip_vision_embedding.bin",
    )
    head = _named("unet", model.unet) | _named("vae", model.vae)
    head |= _named_projector("projector", model.condition_projector)
    if xl:
        head |= _named_projector("global_projector", model.pooled_projector)
    torch.save(head, folder / ("stable_diffusion_xl_head.bin" if xl else "stable_diffusion_head.bin"))


def _named(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def _named_projector(name: str, projector: nn.Sequential) -> dict[str, torch.Tensor]:
    return _named(f"{name}.projector", projector if len(projector) > 1 else projector[0])


def _write_hub(hub: Path, model: OfficialModel) -> None:
    (hub / "clip").mkdir(parents=True)
    vision = model.clip.config.to_dict()
    (hub / "clip" / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    preprocessor = json.loads((CHECKPOINT / "hub/tiny-clip-a/preprocessor_config.json").read_text())
    preprocessor |= {"size": vision["image_size"], "crop_size": vision["image_size"]}
    (hub / "clip" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    model.unet.save_config(hub / "sd" / "unet")
    model.vae.save_config(hub / "sd" / "vae")
    shutil.copytree(CHECKPOINT / "hub/tiny-sd-a/scheduler", hub / "sd" / "scheduler")


def _write_tokens(folder: Path, ids: Mapping[str, int]) -> None:
    added = {token: token_id for token, token_id in ids.items() if token_id >= 400}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    old = {token["content"]: token for token in settings["added_tokens_decoder"].values()}
    settings["added_tokens_decoder"] = {str(ids[content]): token for content, token in old.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
