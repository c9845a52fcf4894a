"""DreamLLM as a transformers model: CLIP tower, vision projector, Llama, dream queries.

Architecture: Dong et al., "DreamLLM: Synergistic Multimodal Comprehension and Creation", ICLR 2024. The condition
projector belongs to the diffusion side and lives in :mod:`models.diffusion`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Cache, CLIPVisionModel, GenerationMixin, LlamaModel, PreTrainedModel
from transformers.utils import ModelOutput

from models.dreamllm.configuration import DreamLLMConfig


@dataclass
class DreamLLMOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives.

    Attributes:
        loss: mean cross-entropy over the labels that are not -100, if labels were given.
        logits: ``[batch, kept, vocab]``; those of the dream queries are the least value of the dtype.
        past_key_values: the KV cache.
        last_hidden_state: ``[batch, length, hidden]``, after the final RMSNorm. At the query positions: dream states.
        hidden_states: states after each layer, if asked for.
        attentions: attention weights, if asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class VisionProjector(nn.Module):
    """Maps patch features to the language model's hidden size: linear layers with an exact GELU between each two."""

    def __init__(self, config: DreamLLMConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        layers: list[nn.Module] = [nn.Linear(config.vision_config.hidden_size, width, bias=config.projector_bias)]
        for _ in range(1, config.projector_depth):
            layers += [nn.GELU(), nn.Linear(width, width, bias=config.projector_bias)]
        self.layers = nn.Sequential(*layers)
        epsilon = config.vision_config.layer_norm_eps
        self.norm = nn.LayerNorm(width, eps=epsilon) if config.projector_norm else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.norm(self.layers(features))
        return projected


class DreamLLMPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Weight initialisation and loading, shared by the model with and without its head."""

    config_class = DreamLLMConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True


class DreamLLMModel(DreamLLMPreTrainedModel):
    """DreamLLM without the language-model head."""

    def __init__(self, config: DreamLLMConfig) -> None:
        super().__init__(config)
        self.vision_tower = CLIPVisionModel(config.vision_config)
        self.multi_modal_projector = VisionProjector(config)
        self.language_model = LlamaModel(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.language_model.embed_tokens
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.embed_tokens = value

    @property
    def dream_queries(self) -> torch.Tensor:
        """The dream queries ``[num_dream_queries, hidden]``: a view into the embedding table."""
        start = self.config.dream_query_token_id
        weight: torch.Tensor = self.language_model.embed_tokens.weight
        return weight[start : start + self.config.num_dream_queries]

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patch features in the language model's space.

        Args:
            pixel_values: ``[images, 3, height, width]``, normalised by the processor.

        Returns:
            ``[images, patches, hidden]``.
        """
        states = self.vision_tower(pixel_values, output_hidden_states=True).hidden_states
        features: torch.Tensor = self.multi_modal_projector(states[self.config.vision_feature_layer][:, 1:])
        return features

    def embed(self, input_ids: torch.Tensor | None, image_features: torch.Tensor | None) -> torch.Tensor:
        """Token embeddings with the pictures in place of their placeholders, ``[batch, length, hidden]``.

        Args:
            input_ids: ``[batch, length]``.
            image_features: of :meth:`get_image_features`, in the order of the placeholders.

        Raises:
            ValueError: the pictures have more or fewer patches than there are placeholders.
        """
        embeds: torch.Tensor = self.get_input_embeddings()(input_ids)
        if image_features is None:
            return embeds
        placeholders = input_ids == self.config.image_token_id
        expected = image_features.shape[0] * image_features.shape[1]
        if int(placeholders.sum()) != expected:
            raise ValueError(f"{int(placeholders.sum())} image placeholders for {expected} patch features")
        return embeds.masked_scatter(placeholders.unsqueeze(-1), image_features.to(embeds.dtype))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            dtype = self.language_model.embed_tokens.weight.dtype
            features = None if pixel_values is None else self.get_image_features(pixel_values.to(dtype))
            inputs_embeds = self.embed(input_ids, features)
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


class DreamLLMForConditionalGeneration(DreamLLMPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """DreamLLM with its language-model head. It writes text and dream tokens; pictures are drawn elsewhere."""

    def __init__(self, config: DreamLLMConfig) -> None:
        super().__init__(config)
        self.model = DreamLLMModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> DreamLLMOutput:
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        states = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.logits(states[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return DreamLLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            last_hidden_state=states,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits ``[..., vocab]`` of states ``[..., hidden]``; of the dream queries, the least value there is."""
        logits: torch.Tensor = self.lm_head(states)
        start = self.config.dream_query_token_id
        logits[..., start : start + self.config.num_dream_queries] = torch.finfo(logits.dtype).min
        return logits

    @torch.inference_mode()
    def dream_states(self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None = None) -> torch.Tensor:
        """Conditioning for a picture drawn after a context.

        Args:
            input_ids: the context, ``[length]``, without the dream token.
            pixel_values: its pictures, ``[images, 3, height, width]``.

        Returns:
            ``[num_dream_queries, hidden]``: states after the final norm at the query positions.
        """
        block = torch.tensor(self.config.dream_block, device=input_ids.device)
        ids = torch.cat([input_ids, block]).unsqueeze(0)
        states = self.model(input_ids=ids, pixel_values=pixel_values).last_hidden_state
        queries: torch.Tensor = states[0, -1 - self.config.num_dream_queries : -1]
        return queries
