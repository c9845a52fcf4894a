"""The model that an official checkpoint describes, built without weights, and where each of its weights comes from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPVisionConfig, LlamaConfig

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.diffusion.sdxl import pooled_dim
from models.dreamllm.configuration import DreamLLMConfig
from models.dreamllm.conversion import tokens
from models.dreamllm.conversion.checkpoint import OfficialCheckpoint, Plugin, read_json
from models.dreamllm.conversion.errors import ConversionError
from models.dreamllm.conversion.tokens import SpecialTokens
from models.dreamllm.modeling import DreamLLMForConditionalGeneration

# projects/dreamllm/inference.py of the official code, which draws with the published checkpoint. (The defaults of the
# pipeline itself, 50 steps at 7.5, are Stable Diffusion's; the paper's evaluation took 100 at 2.0.)
OFFICIAL_SAMPLING = SamplingDefaults(scheduler="ddpm", steps=150, guidance_scale=3.5)
# The defaults of its pipeline: there is no script that draws with DreamLLM-SDXL.
OFFICIAL_XL_SAMPLING = SamplingDefaults(scheduler="ddpm", steps=100, guidance_scale=7.5)

LANGUAGE_MODEL = "language model"
Source = Plugin | str

_LLAMA_SETTINGS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor of the official checkpoint.

    Attributes:
        source: the part of the checkpoint that has it.
        name: its name there.
        shape: what it must have.
        first_row: where it begins in our tensor, which may have more rows.
    """

    source: Source
    name: str
    shape: tuple[int, ...]
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class Component:
    """A module of our layout: a folder with weights of its own.

    Attributes:
        folder: in the output, ``"."`` for the language model with its vision side.
        stem: of its safetensors files.
        module: on the meta device: shapes, no weights.
        origins: for each of its tensors, the official ones that fill it.
        keeps_dtype: whether its tensors stay as they are stored, whatever dtype is asked for.
    """

    folder: str
    stem: str
    module: torch.nn.Module
    origins: Mapping[str, tuple[Origin, ...]]
    keeps_dtype: bool = False


def model_config(checkpoint: OfficialCheckpoint, special: SpecialTokens) -> DreamLLMConfig:
    """Our configuration. The dream queries are appended to the vocabulary.

    Raises:
        ConversionError: the checkpoint has a part that the official release does not.
    """
    official = checkpoint.config
    clip = checkpoint.plugin_arguments(Plugin.CLIP)
    _check_projectors(checkpoint)
    vocab_size = int(official["vocab_size"])
    beyond = {token: token_id for token, token_id in special.ids.items() if token_id >= vocab_size}
    if beyond:
        raise ConversionError(f"ids past the vocabulary of {vocab_size}, which would have random embeddings: {beyond}")
    queries = int(checkpoint.plugin_arguments(Plugin.DREAM).get("num_dream_queries", 64))
    settings = {name: official[name] for name in _LLAMA_SETTINGS if official.get(name) is not None}
    # The official config keeps the base model's pad id; padding is done with the tokenizer's.
    ids = {"bos_token_id": special.ids[special.bos], "eos_token_id": special.ids[special.eos]}
    ids["pad_token_id"] = special.ids[special.pad]
    return DreamLLMConfig(
        text_config=LlamaConfig(vocab_size=vocab_size + queries, **{**settings, **ids}),
        vision_config=CLIPVisionConfig.from_pretrained(checkpoint.clip_folder, local_files_only=True),
        dream_token_id=special.ids[tokens.DREAM_START],
        dream_end_token_id=special.ids[tokens.DREAM_END],
        dream_query_token_id=vocab_size,
        num_dream_queries=queries,
        image_start_token_id=special.ids[tokens.IMAGE_START],
        image_end_token_id=special.ids[tokens.IMAGE_END],
        image_token_id=special.ids[tokens.IMAGE_PATCH],
        vision_feature_layer=clip.get("select_layer", -2),
        projector_depth=clip.get("projector_depth", 1),
        projector_norm=clip.get("use_additional_post_layernorm", False),
        **ids,
    )


def diffusion_decoder(checkpoint: OfficialCheckpoint, hidden_size: int, pooled_bias: bool) -> DiffusionDecoder:
    """The diffusion side, its modules on the meta device.

    Args:
        checkpoint: the official one.
        hidden_size: of the language model.
        pooled_bias: whether the pooled projector of DreamLLM-SDXL has a bias, which its code leaves open.
    """
    folder = checkpoint.diffusion_folder
    depth = checkpoint.plugin_arguments(Plugin.DIFFUSION).get("projector_depth", 1)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json"))
        vae = AutoencoderKL.from_config(read_json(folder / "vae" / "config.json"))
        projector = ConditionProjector(hidden_size, unet.config.cross_attention_dim, bias=False, depth=depth)
        pooled = pooled_dim(unet)
        pooled_projector = None if pooled is None else ConditionProjector(hidden_size, pooled, pooled_bias, depth)
    if checkpoint.is_xl != (pooled is not None):
        raise ConversionError(f"{folder} is not the Stable Diffusion of this checkpoint: one is XL, the other is not")
    scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json")
    sampling = OFFICIAL_XL_SAMPLING if checkpoint.is_xl else OFFICIAL_SAMPLING
    return DiffusionDecoder(projector, unet, vae, scheduler_config, sampling, pooled_projector)


def language_component(config: DreamLLMConfig, tied: bool) -> Component:
    """The language model, its queries and its vision side.

    Args:
        config: ours.
        tied: whether the checkpoint has no head but that of its embeddings.
    """
    with torch.device("meta"):
        model = DreamLLMForConditionalGeneration(config)
    vocab_size, hidden = config.dream_query_token_id, config.text_config.hidden_size
    rows = Origin(LANGUAGE_MODEL, "model.embed_tokens.weight", (vocab_size, hidden))
    queries = Origin(Plugin.DREAM, "dream_queries", (1, config.num_dream_queries, hidden), first_row=vocab_size)
    # No row of the head stands for a query: nothing is read there, and zeros are written.
    head = rows if tied else Origin(LANGUAGE_MODEL, "lm_head.weight", (vocab_size, hidden))
    origins: dict[str, tuple[Origin, ...]] = {
        name: (Origin(*_language_origin(name, config), tuple(tensor.shape)),)
        for name, tensor in model.state_dict().items()
    }
    origins["model.language_model.embed_tokens.weight"] = (rows, queries)
    origins["lm_head.weight"] = (head,)
    return Component(".", "model", model, origins)


def diffusion_components(decoder: DiffusionDecoder) -> Iterator[Component]:
    """Condition projectors, UNet and VAE."""
    for name, module in decoder.modules.items():
        origins = {
            tensor_name: (Origin(Plugin.DIFFUSION, _diffusion_name(name, tensor_name), tuple(tensor.shape)),)
            for tensor_name, tensor in module.state_dict().items()
        }
        # The official code never casts the VAE of Stable Diffusion XL, which overflows in float16.
        keeps_dtype = name == "vae" and decoder.pooled_projector is not None
        yield Component(f"diffusion/{name}", "diffusion_pytorch_model", module, origins, keeps_dtype)


def _language_origin(name: str, config: DreamLLMConfig) -> tuple[Source, str]:
    """Where the official checkpoint keeps a tensor of ours."""
    part, _, rest = name.removeprefix("model.").partition(".")
    match part:
        case "vision_tower":
            return Plugin.CLIP, f"clip_vision_model.vision_model.{rest}"
        case "multi_modal_projector" if rest.startswith("norm."):
            return Plugin.CLIP, f"post_layernorm.{rest.removeprefix('norm.')}"
        case "multi_modal_projector":
            layer = rest.removeprefix("layers.")
            # A linear projector is one layer, an MLP a sequence.
            return Plugin.CLIP, f"projector.projector.{layer if config.projector_depth > 1 else layer[2:]}"
        case "language_model":
            return LANGUAGE_MODEL, f"model.{rest}"
    return LANGUAGE_MODEL, name


def _diffusion_name(component: str, name: str) -> str:
    match component:
        case "condition_projector":
            return name.replace("linear.", "projector.projector.")
        case "pooled_projector":
            return name.replace("linear.", "global_projector.projector.")
    return f"{component}.{name}"


def _check_projectors(checkpoint: OfficialCheckpoint) -> None:
    for plugin in (Plugin.CLIP, Plugin.DIFFUSION):
        kind = checkpoint.plugin_arguments(plugin).get("projector_type", "linear")
        if kind not in ("linear", "mlp"):
            raise ConversionError(f"the projector of {plugin} is of type {kind!r}; linear and mlp can be converted")
