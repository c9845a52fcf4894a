"""``/v1/models``, as OpenAI's."""

from typing import Literal

from pydantic import BaseModel


class ImageCapabilities(BaseModel):
    """What pictures the model draws when a request does not say otherwise."""

    size: str
    size_multiple: int
    steps: int
    guidance_scale: float
    scheduler: str


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dreamserve"
    max_model_len: int
    images: ImageCapabilities


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
