"""Pictures as the vision tower and the autoencoder take them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from models.training.documents.document import Picture


def image_processor(side: int) -> CLIPImageProcessorPil:
    """CLIP's image processor for a tower that reads squares of this side, in pixels."""
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def for_tower(pictures: Sequence[Picture], image_processor: Any) -> torch.Tensor:
    """What the image processor gives, ``[pictures, 3, height, width]``, without its Python cost where nothing is cut.

    Args:
        pictures: uint8 ``[height, width, 3]`` of any sizes.
        image_processor: a CLIP image processor.
    """
    size = (image_processor.crop_size["height"], image_processor.crop_size["width"], 3)
    if any(picture.shape != size for picture in pictures):
        images = [Image.fromarray(picture) for picture in pictures]
        pixel_values: torch.Tensor = image_processor(images, return_tensors="pt")["pixel_values"]
        return pixel_values
    mean, deviation = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    pixels = torch.from_numpy(np.stack(pictures)).float() / 255
    return ((pixels - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def for_autoencoder(pictures: Sequence[Picture], side: int) -> torch.Tensor:
    """Squares of a side in pixels, ``[pictures, 3, side, side]`` in -1…1.

    As in the official code: the short edge is brought to the side, bilinear, and the middle is cut out.
    """
    squares = np.stack([square(picture, side) for picture in pictures])
    return (torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def square(picture: Picture, side: int) -> Picture:
    """The middle of a picture, uint8 ``[side, side, 3]``."""
    height, width = picture.shape[:2]
    if (height, width) == (side, side):
        return picture
    scale = side / min(height, width)
    width, height = max(side, int(width * scale)), max(side, int(height * scale))
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(resized.crop((left, top, left + side, top + side)))
