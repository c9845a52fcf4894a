"""Single calls of the condition projector, the UNet and the VAE against the official code's."""

import pytest
import torch

from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import SchedulerName
from models.diffusion.schedulers import make_scheduler
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import golden, manifest

PROMPTS = ["prompt0", "prompt1", "prompt2", "uncond", "negative", "mm"]


@torch.inference_mode()
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_projector_gives_the_conditions_of(
    official_decoder: DiffusionDecoder, report: DifferenceReport, prompt: str
) -> None:
    (states,) = golden("dream_states")[f"{prompt}_states"]
    condition = official_decoder.condition(states)
    report.compare("projector", condition.states, golden("conditioning")[f"{prompt}_cond"], atol=1e-3, rtol=1e-4)
    assert not condition.added


@torch.inference_mode()
def test_the_projector_gives_the_conditions_of_an_interleaved_document(
    official_decoder: DiffusionDecoder, report: DifferenceReport
) -> None:
    document = golden("interleaved")
    condition = Conditioning.cat([official_decoder.condition(states) for states in document["query_states"]])
    report.compare("projector, interleaved", condition.states, document["query_cond"], atol=1e-3, rtol=1e-4)


@torch.inference_mode()
def test_the_unet_predicts_the_noise_at_all_recorded_timesteps_in_one_batch(
    official_decoder: DiffusionDecoder, report: DifferenceReport
) -> None:
    modules, conditioning = golden("modules"), golden("conditioning")
    timesteps = [801, 401, 1, 999, 0]
    prompt, empty = modules["cond"], conditioning["uncond_cond"]
    predicted = official_decoder.predict(
        modules["latents"].repeat(6, 1, 1, 1),
        torch.tensor([*timesteps, 801]),
        Conditioning(torch.cat([prompt.repeat(5, 1, 1), empty]), {}),
    )
    recorded = [modules[f"unet_eps_t{timestep}"] for timestep in timesteps] + [modules["unet_eps_uncond_t801"]]
    report.compare("UNet", predicted, torch.cat(recorded), atol=1e-3)


@torch.inference_mode()
def test_the_vae_encodes(official_decoder: DiffusionDecoder, report: DifferenceReport) -> None:
    modules = golden("modules")
    posterior = official_decoder.vae.encode(modules["vae_in"]).latent_dist
    report.compare("VAE encode, mean", posterior.mean, modules["vae_moments_mean"], atol=1e-3)
    report.compare("VAE encode, log variance", posterior.logvar, modules["vae_moments_logvar"], atol=1e-3)


@torch.inference_mode()
def test_the_vae_decodes(official_decoder: DiffusionDecoder, report: DifferenceReport) -> None:
    modules = golden("modules")
    pixels = official_decoder.decode(modules["latents"])
    decoded = modules["vae_decode_out"]
    scaling_factor = official_decoder.vae.config.scaling_factor
    report.compare(
        "VAE decode", official_decoder.vae.decode(modules["latents"] / scaling_factor).sample, decoded, atol=1e-3
    )
    recorded = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
    report.compare("VAE decode to uint8", pixels, recorded, atol=1)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_the_schedulers_read_the_folder_as_the_official_ones(
    official_decoder: DiffusionDecoder, report: DifferenceReport, name: SchedulerName
) -> None:
    scheduler = make_scheduler(name, official_decoder.scheduler_config, 5)
    official = manifest()["files"]["diffusion.npz"]["facts"][f"{name}_config"]
    # It also holds what the file says of PNDM and no scheduler here reads.
    settings = {key: value for key, value in scheduler.config.items() if key in official and not key.startswith("_")}
    assert len(settings) > 12
    assert settings == {key: official[key] for key in settings}
    assert scheduler.timesteps.tolist() == golden("diffusion")[f"{name}1_timesteps"].tolist()
    report.compare("noise schedule", scheduler.alphas_cumprod, golden("modules")["alphas_cumprod"], atol=1e-7)


def test_a_converted_checkpoint_draws_by_default_as_the_official_code_does(official_decoder: DiffusionDecoder) -> None:
    sampling = official_decoder.sampling
    assert (sampling.scheduler, sampling.steps, sampling.guidance_scale) == ("ddpm", 150, 3.5)
    timesteps = make_scheduler(sampling.scheduler, official_decoder.scheduler_config, sampling.steps).timesteps
    assert timesteps.tolist() == list(range(895, 0, -6))
