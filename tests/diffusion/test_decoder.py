"""The diffusion side of a checkpoint on disk and in memory."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from tests.tiny_diffusion import HIDDEN_SIZE, QUERIES, make_random_diffusion, random_decoder, random_states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_random_diffusion(tmp_path, hidden_size=HIDDEN_SIZE)


@torch.inference_mode()
def test_a_saved_decoder_loads_and_computes_the_same(folder: Path) -> None:
    saved, loaded = random_decoder(), DiffusionDecoder.from_pretrained(folder)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timesteps, states = torch.tensor([5, 900]), random_states(1)
    condition = Conditioning.cat([loaded.condition(states)] * 2)
    assert condition.states.shape == (2, QUERIES, 16)
    assert torch.equal(condition.states[0], saved.condition(states).states[0])
    assert torch.equal(loaded.predict(latents, timesteps, condition), saved.predict(latents, timesteps, condition))
    assert torch.equal(loaded.decode(latents), saved.decode(latents))
    assert loaded.scheduler_config == saved.scheduler_config
    assert loaded.sampling == saved.sampling


def test_the_folder_has_the_layout_of_diffusers_and_holds_nothing_pickled(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    components = {name for name in index if not name.startswith("_")}
    assert components == {path.name for path in folder.iterdir() if path.is_dir()}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_weights_that_are_not_safetensors_are_not_read(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        DiffusionDecoder.from_pretrained(folder)


def test_half_precision_weights_run_in_float32_on_a_cpu(tmp_path: Path) -> None:
    decoder = random_decoder()
    for module in (decoder.unet, decoder.vae, decoder.projector):
        module.to(torch.float16)
    decoder.save_pretrained(tmp_path)
    assert load_file(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype == torch.float16
    loaded = DiffusionDecoder.from_pretrained(tmp_path, "cpu")
    assert {loaded.unet.dtype, loaded.vae.dtype, loaded.projector.dtype} == {torch.float32}
    assert DiffusionDecoder.from_pretrained(tmp_path, "cpu", torch.bfloat16).dtype == torch.bfloat16


def test_float16_is_refused_on_a_cpu(folder: Path) -> None:
    with pytest.raises(ValueError, match="float16"):
        DiffusionDecoder.from_pretrained(folder, "cpu", torch.float16)


def test_sizes_follow_from_the_unet_and_the_vae() -> None:
    decoder = random_decoder()
    assert decoder.image_size == 32
    assert decoder.latent_shape(width=64, height=32) == (4, 16, 32)
    with pytest.raises(ValueError, match="multiples of 4"):
        decoder.latent_shape(30, 32)


@torch.inference_mode()
def test_pixels_are_rounded_from_the_range_of_the_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_decoder()
    values = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 2.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    monkeypatch.setattr(decoder.vae, "decode", lambda latents, return_dict: (values,))
    assert decoder.decode(torch.zeros(1, 4, 1, 3))[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]


@torch.inference_mode()
def test_a_deeper_projector_has_exact_gelus_between_its_layers(tmp_path: Path) -> None:
    projector = ConditionProjector(HIDDEN_SIZE, 16, depth=3, bias=True)
    projector.save_pretrained(tmp_path)
    loaded = ConditionProjector.from_pretrained(tmp_path)
    first, second, third = (layer for layer in projector.linear if isinstance(layer, torch.nn.Linear))
    states = random_states(1)
    expected = third(torch.nn.functional.gelu(second(torch.nn.functional.gelu(first(states)))))
    torch.testing.assert_close(loaded(states), expected)


@pytest.mark.parametrize("defaults", [{"scheduler": "euler"}, {"steps": 0}, {"guidance": 3.0}])
def test_defaults_that_cannot_be_drawn_are_refused_at_loading(defaults: dict[str, object], folder: Path) -> None:
    path = folder / "sampling_defaults.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **defaults}))
    with pytest.raises(ValueError, match=r"sampling_defaults\.json"):
        DiffusionDecoder.from_pretrained(folder)
