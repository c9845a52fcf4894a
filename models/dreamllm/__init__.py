"""DreamLLM in the Hugging Face manner. Importing this package registers it with the Auto classes."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from models.dreamllm.configuration import DreamLLMConfig
from models.dreamllm.modeling import DreamLLMForConditionalGeneration, DreamLLMModel
from models.dreamllm.processing import DreamLLMProcessor

AutoConfig.register(DreamLLMConfig.model_type, DreamLLMConfig, exist_ok=True)
AutoProcessor.register(DreamLLMConfig, DreamLLMProcessor, exist_ok=True)
AutoModelForImageTextToText.register(DreamLLMConfig, DreamLLMForConditionalGeneration, exist_ok=True)

__all__ = ["DreamLLMConfig", "DreamLLMForConditionalGeneration", "DreamLLMModel", "DreamLLMProcessor"]
