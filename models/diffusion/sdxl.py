"""What Stable Diffusion XL adds to the conditions of a UNet (Podell et al. 2023, sections 2.1 and 2.2).

Its UNet reads, beside the states of cross-attention, one pooled vector for the whole prompt and six numbers about the
training picture that it should imitate: height and width before resizing, where the crop began, and what it was cropped
to. The official DreamLLM-SDXL pools the dream states by their mean, with a projector of its own to the pooled vector's
size, and asks for an uncropped picture of the size that the UNet was trained on, whatever the size to draw. That
projector is the ``global_projector`` of its ``stable_diffusion_xl_head.bin``.

The facts are read from its code (``omni/models/dreamllm_sdxl`` of RunpeiDong/DreamLLM), which was not run.
"""

import torch
from diffusers import UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector

_TIME_IDS = 6


def pooled_dim(unet: UNet2DConditionModel) -> int | None:
    """Size of the pooled vector that a UNet reads; None for one that reads none, as that of Stable Diffusion.

    Raises:
        ValueError: it reads conditions that nothing here makes.
    """
    match unet.config.addition_embed_type:
        case None:
            return None
        case "text_time":
            time_dim: int = _TIME_IDS * unet.config.addition_time_embed_dim
            return int(unet.config.projection_class_embeddings_input_dim) - time_dim
        case other:
            raise ValueError(f"UNets with added conditions of the kind {other!r} are not supported")


def added_conditions(states: torch.Tensor, projector: ConditionProjector, side: int) -> dict[str, torch.Tensor]:
    """Conditions of one row.

    Args:
        states: dream states ``[1, queries, hidden_size]``.
        projector: ``hidden_size`` to the size of the pooled vector.
        side: of the pictures that the UNet was trained on, in pixels.

    Returns:
        ``text_embeds`` ``[1, pooled_dim]`` and ``time_ids`` float32 ``[1, 6]``.
    """
    original_size = crop_to = (side, side)
    crop_from = (0, 0)
    return {
        "text_embeds": projector(states.mean(dim=1)),
        "time_ids": torch.tensor([[*original_size, *crop_from, *crop_to]], dtype=torch.float32, device=states.device),
    }
