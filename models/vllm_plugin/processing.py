"""Pictures of a prompt, as vLLM wants them: one ``<im_patch>`` in, the picture's patches out."""

from collections.abc import Mapping, Sequence
from typing import cast

from transformers import BatchFeature
from vllm.config.multimodal import MultiModalDummyOptions
from vllm.inputs import MultiModalDataDict
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
)

from models.dreamllm import DreamLLMConfig, DreamLLMProcessor


class DreamLLMProcessingInfo(BaseProcessingInfo):  # type: ignore[misc]
    """What vLLM asks about DreamLLM's pictures before it sees one."""

    def get_hf_config(self) -> DreamLLMConfig:
        return cast(DreamLLMConfig, self.ctx.get_hf_config(DreamLLMConfig))

    def get_hf_processor(self, **kwargs: object) -> DreamLLMProcessor:
        return cast(DreamLLMProcessor, self.ctx.get_hf_processor(DreamLLMProcessor, **kwargs))

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        return {"image": self.get_hf_config().num_image_tokens}


class DreamLLMDummyInputsBuilder(BaseDummyInputsBuilder[DreamLLMProcessingInfo]):  # type: ignore[misc]
    """Pictures with which vLLM measures memory at start-up."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        placeholder = self.info.get_tokenizer().convert_ids_to_tokens(self.info.get_hf_config().image_token_id)
        return cast(str, placeholder) * mm_counts.get("image", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: MultiModalDummyOptions
    ) -> MultiModalDataDict:
        side = self.info.get_hf_config().vision_config.image_size
        images = self._get_dummy_images(
            width=side, height=side, num_images=mm_counts.get("image", 0), overrides=mm_options.get("image")
        )
        return {"image": images}


class DreamLLMMultiModalProcessor(BaseMultiModalProcessor[DreamLLMProcessingInfo]):  # type: ignore[misc]
    """Runs the checkpoint's own image processor and expands the placeholders."""

    def _call_hf_processor(self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        # The prompt is token ids already: of the Hugging Face processor only the image half has work to do.
        image_processor = self.info.get_hf_processor().image_processor
        return self.info.ctx.call_hf_processor(image_processor, hf_data, hf_kwargs)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {"pixel_values": MultiModalFieldConfig.batched("image")}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        config = self.info.get_hf_config()
        patches = [config.image_token_id] * config.num_image_tokens
        return [PromptReplacement(modality="image", target=[config.image_token_id], replacement=patches)]
