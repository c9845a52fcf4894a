"""Checkpoints of the official layout with other shapes convert, and compute what their modules do."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.diffusion.decoder import DiffusionDecoder
from models.dreamllm.conversion import ConversionError, convert
from tests.parity.converted import STATES
from tests.parity.difference_report import DifferenceReport
from tests.parity.official_variant import Variant, write_variant

VARIANTS = {
    "grouped-query attention": Variant(kv_heads=2),
    "multi-query attention with biases": Variant(kv_heads=1, attention_bias=True),
    "MLP projectors of depth 2": Variant(projector_depth=2, condition_depth=2),
    "MLP projector of depth 3": Variant(projector_depth=3),
    "layer norm behind the projector": Variant(post_layernorm=True),
    "other queries and patches": Variant(queries=5, image_size=42),
    "shallow VAE": Variant(vae_blocks=2),
    "deep VAE": Variant(vae_blocks=4),
    "another order of ids": Variant(id_order=tuple(reversed(Variant().id_order))),
    "padded embeddings": Variant(spare_rows=24),
    "Stable Diffusion XL": Variant(xl=True, id_order=(*Variant().id_order, "<dream_patch>")),
    "Stable Diffusion XL, MLP projectors": Variant(xl=True, condition_depth=2),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_variant_computes_what_its_modules_do(variant: Variant, tmp_path: Path, report: DifferenceReport) -> None:
    official = write_variant(tmp_path / "official", variant)
    convert(tmp_path / "official", tmp_path / "ours")

    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    config = model.config
    processor = AutoProcessor.from_pretrained(tmp_path / "ours")
    assert config.dream_token_id == official.ids["<dream_start>"]
    inputs = processor(
        text="<s><image>A photo of a black dog.", images=[noise(70)], add_special_tokens=False, return_tensors="pt"
    )
    pixels, ids = inputs["pixel_values"], inputs["input_ids"][0]
    assert config.num_image_tokens == (variant.image_size // 14) ** 2
    report.compare(
        "variants: image features", model.model.get_image_features(pixels), official.image_features(pixels), **STATES
    )
    text = ids[3 + config.num_image_tokens :].tolist()
    states = model.dream_states(ids, pixels)
    assert len(states) == variant.queries
    report.compare("variants: dream states", states, official.dream_states(text, pixels), **STATES)

    decoder = DiffusionDecoder.from_pretrained(tmp_path / "ours" / "diffusion")
    latents, timesteps = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([401])
    with torch.inference_mode():
        condition = official.condition_projector(states.unsqueeze(0))
        # What the official code for XL adds: the projected mean of the states, and sizes in pixels.
        side = float(decoder.image_size)
        added = {
            "text_embeds": official.pooled_projector(states.mean(0, keepdim=True)),
            "time_ids": torch.tensor([[side, side, 0.0, 0.0, side, side]]),
        }
        expected = official.unet(latents, timesteps, condition, added_cond_kwargs=added).sample
        decoded = official.vae.decode(latents).sample
    predicted = decoder.predict(latents, timesteps, decoder.condition(states))
    report.compare("variants: UNet", predicted, expected, **STATES)
    report.compare("variants: VAE", decoder.vae.decode(latents).sample, decoded, **STATES)
    assert decoder.image_size == 8 * 2 ** (variant.vae_blocks - 1)


def noise(side: int) -> torch.Tensor:
    """A picture ``[3, side, side]``, uint8."""
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_vae_of_stable_diffusion_xl_is_never_cast(tmp_path: Path) -> None:
    write_variant(tmp_path / "official", Variant(xl=True))
    convert(tmp_path / "official", tmp_path / "ours", dtype=torch.bfloat16)
    folder = tmp_path / "ours" / "diffusion"
    dtypes = {
        name: {tensor.dtype for tensor in load_file(folder / name / "diffusion_pytorch_model.safetensors").values()}
        for name in ("vae", "unet", "condition_projector", "pooled_projector")
    }
    half = {torch.bfloat16}
    assert dtypes == {"vae": {torch.float32}, "unet": half, "condition_projector": half, "pooled_projector": half}


def test_a_stable_diffusion_of_the_other_kind_is_an_error(tmp_path: Path) -> None:
    write_variant(tmp_path / "official", Variant())
    write_variant(tmp_path / "xl", Variant(xl=True))
    with pytest.raises(ConversionError, match="one is XL, the other is not"):
        convert(tmp_path / "official", tmp_path / "ours", diffusion=tmp_path / "xl" / "hub" / "sd")
