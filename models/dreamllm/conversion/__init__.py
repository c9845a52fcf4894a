"""Conversion of official DreamLLM checkpoints (RunpeiDong/DreamLLM) to the layout that is served."""

from models.dreamllm.conversion.convert import convert
from models.dreamllm.conversion.errors import ConversionError
from models.dreamllm.conversion.report import ConversionReport

__all__ = ["ConversionError", "ConversionReport", "convert"]
