"""The configuration of DreamLLM: a Llama, a CLIP tower, and the dream settings that join them to a diffusion model."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig


@strict
class DreamLLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a :class:`~models.dreamllm.DreamLLMForConditionalGeneration`.

    The vocabulary is that of the tokenizer followed by the dream queries: ``text_config.vocab_size`` counts both, and
    query ``i`` has the id ``dream_query_token_id + i``. A query is an ordinary input token whose logit is masked, so
    it can be read by the model and never written by it.

    Args:
        text_config: the Llama; a :class:`transformers.LlamaConfig` or its dict.
        vision_config: the CLIP vision tower; a :class:`transformers.CLIPVisionConfig` or its dict.
        dream_token_id: with it the model asks for a picture (``<dream_start>`` of the published checkpoint).
        dream_end_token_id: closes the dream queries.
        dream_query_token_id: id of the first dream query.
        num_dream_queries: number of dream queries (64 in the paper).
        image_start_token_id: opens the patches of a picture.
        image_end_token_id: closes them.
        image_token_id: placeholder that the patch features replace (``<im_patch>``).
        vision_feature_layer: which hidden state of the tower is read; -2 is the last but one, without CLS.
        projector_depth: linear layers in the vision projector, with an exact GELU between each two.
        projector_bias: whether the vision projector has a bias.
        projector_norm: whether a layer norm follows it, with the epsilon of the tower.
        feedback: whether the model was trained to read the pictures it drew (``"image"``) or not (``"none"``).
    """

    model_type = "dreamllm"
    sub_configs = {"text_config": LlamaConfig, "vision_config": CLIPVisionConfig}

    text_config: Any = None
    vision_config: Any = None
    dream_token_id: int = 32003
    dream_end_token_id: int = 32002
    dream_query_token_id: int = 32008
    num_dream_queries: int = 64
    image_start_token_id: int = 32001
    image_end_token_id: int = 32005
    image_token_id: int = 32004
    vision_feature_layer: int = -2
    projector_depth: int = 1
    projector_bias: bool = True
    projector_norm: bool = False
    feedback: str = "image"
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.text_config, PreTrainedConfig):
            given = {k: v for k, v in (self.text_config or {}).items() if k != "model_type"}
            vocab_size = self.dream_query_token_id + self.num_dream_queries
            self.text_config = LlamaConfig(**{"vocab_size": vocab_size, **given})
        if not isinstance(self.vision_config, PreTrainedConfig):
            given = {k: v for k, v in (self.vision_config or {}).items() if k != "model_type"}
            self.vision_config = CLIPVisionConfig(**given)
        super().__post_init__(**kwargs)
        if self.projector_depth < 1:
            raise ValueError(f"projector_depth must be at least 1, not {self.projector_depth}")
        if self.feedback not in ("image", "none"):
            raise ValueError(f"feedback must be 'image' or 'none', not {self.feedback!r}")
        end = self.dream_query_token_id + self.num_dream_queries
        if end > self.text_config.vocab_size:
            raise ValueError(f"dream queries end at id {end}, past the vocabulary of {self.text_config.vocab_size}")

    @property
    def num_image_tokens(self) -> int:
        """Patches of one picture: what one ``image_token_id`` of a prompt stands for."""
        side: int = self.vision_config.image_size // self.vision_config.patch_size
        return side * side

    @property
    def dream_query_token_ids(self) -> list[int]:
        """Ids of the dream queries, in order."""
        return list(range(self.dream_query_token_id, self.dream_query_token_id + self.num_dream_queries))

    @property
    def dream_block(self) -> list[int]:
        """Ids that follow the context when the model dreams: dream token, queries, end."""
        return [self.dream_token_id, *self.dream_query_token_ids, self.dream_end_token_id]

    @property
    def image_block(self) -> list[int]:
        """Ids of a picture in the context, its patches not yet expanded: start, one placeholder, end."""
        return [self.image_start_token_id, self.image_token_id, self.image_end_token_id]

    @property
    def control_token_ids(self) -> frozenset[int]:
        """Ids that shape a document and that no text may contain."""
        blocks = [*self.dream_block, *self.image_block]
        return frozenset(blocks)
