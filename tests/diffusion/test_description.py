"""What can be known of a decoder without its weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import DecoderDescription, SamplingDefaults
from tests.diffusion.tiny_sdxl import random_sdxl_decoder
from tests.tiny_diffusion import HIDDEN_SIZE, QUERIES, STATES_SHAPE, make_render_job, random_decoder


@pytest.fixture(params=[random_decoder, random_sdxl_decoder])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> DiffusionDecoder:
    """A decoder in ``tmp_path``, of which the weights are deleted."""
    decoder: DiffusionDecoder = request.param()
    decoder.save_pretrained(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    return decoder


def test_the_configurations_say_all_that_the_decoder_says_of_itself(saved: DiffusionDecoder, tmp_path: Path) -> None:
    description = DecoderDescription.from_pretrained(tmp_path)
    assert description == saved.description
    assert description.hidden_size == HIDDEN_SIZE
    assert (description.image_size, description.size_multiple) == (32, 4)
    assert description.latent_shape(64, 32) == (4, 16, 32)
    assert description.sampling == SamplingDefaults(steps=4, guidance_scale=3.0)


def test_area_is_counted_in_pictures_of_the_default_size() -> None:
    description = random_decoder().description
    assert [description.relative_area(*size) for size in [(32, 32), (64, 32), (16, 16)]] == [1.0, 2.0, 0.25]


def test_a_job_that_can_be_drawn_passes() -> None:
    random_decoder().description.check(make_render_job("a", negative_states=torch.zeros(STATES_SHAPE)), STATES_SHAPE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 33}, "width and height"),
        ({"height": 0}, "width and height"),
        ({"steps": 0}, "steps"),
        ({"steps": 1000}, "steps"),
        ({"scheduler": "euler"}, "scheduler"),
        ({"states": torch.zeros(QUERIES - 1, HIDDEN_SIZE)}, "dream states"),
        ({"negative_states": torch.zeros(QUERIES, HIDDEN_SIZE - 1)}, "dream states"),
    ],
)
def test_a_job_that_cannot_be_drawn_is_found_out(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        random_decoder().description.check(make_render_job("a", **changes), STATES_SHAPE)


@pytest.mark.parametrize(
    "file",
    [
        "condition_projector/config.json",
        "unet/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "sampling_defaults.json",
    ],
)
def test_a_configuration_that_is_missing_or_broken_is_named(tmp_path: Path, file: str) -> None:
    random_decoder().save_pretrained(tmp_path)
    path = tmp_path / file
    path.write_text("{")
    with pytest.raises(ValueError, match="property name"):
        DecoderDescription.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(OSError, match=file):
        DecoderDescription.from_pretrained(tmp_path)


def test_a_configuration_without_what_is_needed_is_refused(tmp_path: Path) -> None:
    random_decoder().save_pretrained(tmp_path)
    path = tmp_path / "unet" / "config.json"
    config = json.loads(path.read_text())
    del config["sample_size"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="sample_size"):
        DecoderDescription.from_pretrained(tmp_path)
