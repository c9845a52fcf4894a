"""DreamLLM as a vLLM model: vLLM's CLIP tower and Llama, joined as :mod:`models.dreamllm.modeling` joins them.

The checkpoint is the Hugging Face one. Unlike there, logits of dream queries are minus infinity rather than the least
number, so no logit bias, temperature or penalty can bring a query back.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.models.clip import CLIPVisionTransformer
from vllm.model_executor.models.interfaces import MultiModalEmbeddings, SupportsMultiModal
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    get_layer_index,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from models.dreamllm import DreamLLMConfig
from models.vllm_plugin.head_padding import HeadPadding
from models.vllm_plugin.hidden_states import LastHiddenStates
from models.vllm_plugin.processing import (
    DreamLLMDummyInputsBuilder,
    DreamLLMMultiModalProcessor,
    DreamLLMProcessingInfo,
)


class VisionProjector(nn.Module):
    """Maps patch features to the hidden size. Small, so every tensor-parallel rank holds the whole of it."""

    def __init__(self, config: DreamLLMConfig, prefix: str) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        layers: list[nn.Module] = []
        for index in range(config.projector_depth):
            if index > 0:
                layers.append(nn.GELU())
            layers.append(
                ReplicatedLinear(
                    width if index > 0 else config.vision_config.hidden_size,
                    width,
                    bias=config.projector_bias,
                    return_bias=False,
                    prefix=f"{prefix}.layers.{len(layers)}",
                )
            )
        self.layers = nn.Sequential(*layers)
        epsilon = config.vision_config.layer_norm_eps
        self.norm = nn.LayerNorm(width, eps=epsilon) if config.projector_norm else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.norm(self.layers(features))
        return projected


@MULTIMODAL_REGISTRY.register_processor(
    DreamLLMMultiModalProcessor, info=DreamLLMProcessingInfo, dummy_inputs=DreamLLMDummyInputsBuilder
)
class DreamLLMForConditionalGeneration(nn.Module, SupportsMultiModal):  # type: ignore[misc]
    """DreamLLM, with its last hidden states kept for the dream capture."""

    vision_tower: nn.Module
    multi_modal_projector: nn.Module

    packed_modules_mapping = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }
    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            "model.language_model.": "language_model.model.",
            "model.vision_tower.": "vision_tower.",
            "model.multi_modal_projector.": "multi_modal_projector.",
            "lm_head.": "language_model.lm_head.",
        }
    )

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        if modality != "image":
            raise ValueError(f"DreamLLM reads images, not {modality}")
        return "<image>"

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: DreamLLMConfig = vllm_config.model_config.hf_config
        self.config = config
        vision = config.vision_config
        with self._mark_tower_model(vllm_config, "image"):  # type: ignore[operator]
            # Layers above the one whose features are read are never built; the post-norm belongs to the pooled output.
            self.vision_tower = CLIPVisionTransformer(
                vision,
                quant_config=vllm_config.quant_config,
                num_hidden_layers_override=get_layer_index(config.vision_feature_layer, vision.num_hidden_layers),
                require_post_norm=False,
                prefix=maybe_prefix(prefix, "vision_tower"),
            )
            self.multi_modal_projector = VisionProjector(config, maybe_prefix(prefix, "multi_modal_projector"))
        self.head_padding = HeadPadding(config.text_config)
        with self._mark_language_model(vllm_config):  # type: ignore[operator]
            self.language_model = init_vllm_registered_model(
                vllm_config,
                hf_config=self.head_padding.config,
                architectures=["LlamaForCausalLM"],
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.last_hidden_states = LastHiddenStates(
            vllm_config.scheduler_config.max_num_batched_tokens,
            config.text_config.hidden_size,
            vllm_config.model_config.dtype,
        )
        self.last_hidden_states.publish(vllm_config)

    def embed_multimodal(self, **kwargs: object) -> MultiModalEmbeddings:
        """Patch features ``[images, patches, hidden]`` of ``pixel_values`` ``[images, 3, height, width]``."""
        pixel_values = kwargs.get("pixel_values")
        if pixel_values is None:
            return []
        # "default" is the name, in vLLM as in LLaVA, for all features but CLS.
        features = self.vision_tower(pixel_values, feature_select_strategy="default")
        return self.multi_modal_projector(features)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """States after the final norm, ``[tokens, hidden]``."""
        states: torch.Tensor = self.language_model.model(
            input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds
        )
        self.last_hidden_states.keep(states)
        return states

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Logits ``[tokens, vocab]``, those of the dream queries minus infinity; None on ranks that do not sample."""
        logits: torch.Tensor | None = self.language_model.compute_logits(hidden_states)
        if logits is not None:
            start = self.config.dream_query_token_id
            logits[..., start : start + self.config.num_dream_queries] = -torch.inf
        return logits

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        padded = self.head_padding.pad(weights)
        loaded: set[str] = AutoWeightsLoader(self).load_weights(padded, mapper=self.hf_to_vllm_mapper)
        return loaded

    def get_mm_mapping(self) -> MultiModelKeys:
        return MultiModelKeys.from_string_field(
            language_model="language_model", connector="multi_modal_projector", tower_model="vision_tower"
        )
