"""``/v1/models``: what is served."""

from dataclasses import asdict

from fastapi import APIRouter

from server.api.intake import check_model
from server.api.routing import ERRORS, RunningService
from server.schema.models import ImageCapabilities, ModelCard, ModelList, SamplingDefaults
from server.service import Service

router = APIRouter(prefix="/v1", tags=["models"], responses=ERRORS)


@router.get("/models", summary="List the models")
async def list_models(service: RunningService) -> ModelList:
    """The one model that is served."""
    return ModelList(data=[model_card(service)])


@router.get("/models/{model:path}", summary="Describe a model")
async def get_model(model: str, service: RunningService) -> ModelCard:
    """The model of that name."""
    check_model(model, service.settings)
    return model_card(service)


def model_card(service: Service) -> ModelCard:
    """What there is to know of the model."""
    backend = service.backend
    drawing = backend.drawing
    return ModelCard(
        id=service.settings.model.name,
        created=service.created,
        max_model_len=backend.engine.max_model_len,
        sampling=SamplingDefaults(**asdict(backend.text)),
        images=ImageCapabilities(
            max=service.settings.limits.images,
            size=f"{drawing.width}x{drawing.height}",
            size_multiple=drawing.size_multiple,
            steps=drawing.steps,
            guidance_scale=drawing.guidance_scale,
            scheduler=drawing.scheduler,
        ),
    )
