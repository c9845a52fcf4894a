"""The published model at its real size, on the meta device: what the converter expects of it, and what it needs."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from models.dreamllm.conversion.architecture import (
    LANGUAGE_MODEL,
    Component,
    diffusion_components,
    diffusion_decoder,
    language_component,
    model_config,
)
from models.dreamllm.conversion.checkpoint import OfficialCheckpoint, Plugin
from models.dreamllm.conversion.tokens import read_special_tokens
from tests.parity.published import CLIP_VISION, LLAMA, UNET, VAE, write_published

pytestmark = pytest.mark.slow

GIB = 2**30
HALF = 2  # bytes of a number in float16 and bfloat16


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> list[Component]:
    folder = write_published(tmp_path_factory.mktemp("published") / "official")
    checkpoint = OfficialCheckpoint.open(folder)
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"}
    config = model_config(checkpoint, read_special_tokens(folder, checkpoint.config, roles))
    decoder = diffusion_decoder(checkpoint, config.text_config.hidden_size, pooled_bias=False)
    return [language_component(config, tied=False), *diffusion_components(decoder)]


def official_shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    """Names and shapes in the published files, from the modules that the official code saves there."""
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "torch_dtype"}))
        clip = CLIPVisionModel(CLIPVisionConfig(**CLIP_VISION))
        unet, vae = UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE)
    return {
        **{(LANGUAGE_MODEL, name): tuple(tensor.shape) for name, tensor in llama.state_dict().items()},
        (Plugin.DREAM, "dream_queries"): (1, 64, 4096),
        **{
            (Plugin.CLIP, f"clip_vision_model.vision_model.{name}"): tuple(tensor.shape)
            for name, tensor in clip.state_dict().items()
        },
        (Plugin.CLIP, "projector.projector.weight"): (4096, 1024),
        (Plugin.CLIP, "projector.projector.bias"): (4096,),
        **{(Plugin.DIFFUSION, f"unet.{name}"): tuple(tensor.shape) for name, tensor in unet.state_dict().items()},
        **{(Plugin.DIFFUSION, f"vae.{name}"): tuple(tensor.shape) for name, tensor in vae.state_dict().items()},
        (Plugin.DIFFUSION, "projector.projector.weight"): (1024, 4096),
    }


def test_every_name_and_shape_is_that_of_the_published_files(components: list[Component]) -> None:
    expected = {
        (origin.source, origin.name): origin.shape
        for component in components
        for origins in component.origins.values()
        for origin in origins
    }
    assert expected == official_shapes()
    assert len(expected) == 291 + 1 + 393 + 935


def test_parameters_are_as_many_as_the_parts_are_known_to_have(components: list[Component]) -> None:
    counts = {component.folder: parameters(component) for component in components}
    # Llama-7B has 6.738 G; eight tokens and 64 queries more, in embeddings and head.
    language = 6_738_415_616 + 2 * (8 + 64) * 4096
    vision = 303_179_776 + 1024 * 4096 + 4096
    assert counts["."] == language + vision
    assert counts["diffusion/unet"] == 865_910_724
    assert counts["diffusion/vae"] == 83_653_863
    assert counts["diffusion/condition_projector"] == 4096 * 1024


def test_memory(components: list[Component], capsys: pytest.CaptureFixture[str]) -> None:
    language, *diffusion = components
    text = language.module.config.text_config
    kv_per_token = HALF * 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    patches = language.module.config.num_image_tokens
    # A picture in the context: dream token, queries, end, start, patches, end.
    block = 1 + 64 + 1 + 1 + patches + 1
    latents = 4 * 64 * 64 * 4
    states = 2 * 64 * text.hidden_size * HALF
    rows = {
        "language model and CLIP tower": parameters(language) * HALF,
        "UNet, VAE and condition projector": sum(map(parameters, diffusion)) * HALF,
        "weights together": sum(map(parameters, components)) * HALF,
        "KV cache, one token": kv_per_token,
        f"KV cache, one picture of the context ({block} tokens)": kv_per_token * block,
        f"KV cache, one full context ({text.max_position_embeddings} tokens)": kv_per_token
        * text.max_position_embeddings,
        "picture in flight: dream states of both branches": states,
        "picture in flight: latents in float32": latents,
    }
    assert kv_per_token == 512 * 1024
    with capsys.disabled():
        print("\n| float16 or bfloat16 | bytes | |\n| --- | ---: | ---: |")
        for name, size in rows.items():
            readable = f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**10:.0f} KiB"
            print(f"| {name} | {size:,} | {readable} |")
    assert rows["weights together"] < 15.5 * GIB


def parameters(component: Component) -> int:
    return sum(tensor.numel() for tensor in component.module.state_dict().values())
