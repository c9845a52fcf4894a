"""``/v1/models``, as OpenAI's."""

from typing import Literal

from pydantic import BaseModel, Field


class ImageCapabilities(BaseModel):
    """What pictures the model draws when a request does not say otherwise."""

    max: int = Field(description="Pictures of one answer.")
    size: str
    size_multiple: int
    steps: int
    guidance_scale: float
    scheduler: str


class SamplingDefaults(BaseModel):
    """How the model's text is sampled when a request does not say otherwise."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dreamserve"
    max_model_len: int
    sampling: SamplingDefaults
    images: ImageCapabilities


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
