"""The joint loss and its gradients against one training step of the official code, in each of its variants."""

from pathlib import Path

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.dreamllm import DreamLLMForConditionalGeneration
from models.training.denoising_loss import DenoisingLoss, DenoisingSettings, Draws
from models.training.joint_loss import JointLoss, LossWeights
from models.training.sequence import Batch
from tests.parity.converted import STATES, our_ids
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import golden

# Of the manifest: losses to rtol 1e-4, gradients to 1e-3 of their largest entry.
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3

VARIANTS = {
    "base": DenoisingSettings(),
    "snr": DenoisingSettings(snr_gamma=5.0),
    "drop": DenoisingSettings(drop_prob=0.5),
    "offset": DenoisingSettings(noise_offset=0.1, input_perturbation=0.1),
}
GRADIENTS = {
    "model.dream_embedding.dream_queries": "model.model.language_model.embed_tokens.weight",
    "model.clip_vision_embedding.projector.projector.weight": "model.model.multi_modal_projector.layers.0.weight",
    "stable_diffusion_head.projector.projector.weight": "denoising.projector.linear.weight",
    "model.norm.weight": "model.model.language_model.norm.weight",
    "model.layers.0.self_attn.k_proj.weight": "model.model.language_model.layers.0.self_attn.k_proj.weight",
}


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    return golden("training")


@pytest.fixture(scope="module")
def batch(model: DreamLLMForConditionalGeneration, recorded: dict[str, torch.Tensor]) -> Batch:
    """The official batch of two interleaved documents with three pictures."""
    ids = torch.tensor([our_ids(model.config, row) for row in recorded["input_ids"]])
    rows, positions = (ids == model.config.dream_query_token_id).nonzero(as_tuple=True)
    return Batch(
        input_ids=ids,
        labels=recorded["labels"],
        pixel_values=recorded["images"],
        rows=rows,
        queries=positions,
        wishes=(None,) * len(rows),
        pictures=recorded["images_dm"],
    )


def joint_loss(model: DreamLLMForConditionalGeneration, converted: Path, variant: str) -> JointLoss:
    decoder = DiffusionDecoder.from_pretrained(converted / "diffusion")
    modules = (decoder.projector, decoder.unet, decoder.vae)
    denoising = DenoisingLoss(*modules, decoder.scheduler_config, VARIANTS[variant])
    return JointLoss(model, denoising, LossWeights())


def draws(recorded: dict[str, torch.Tensor], variant: str, latents: torch.Tensor) -> Draws:
    """The official draws. The offset of the noise was not recorded: it is what noisy latents have beyond the rest."""
    noise = recorded[f"{variant}_noise"]
    perturbation = None
    if variant == "offset":
        perturbation = 0.1 * recorded["offset_randn_like_1"]
        signal = golden("modules")["alphas_cumprod"][recorded["offset_timesteps"]][:, None, None, None]
        all_noise = (recorded["offset_noisy_latents"] - signal.sqrt() * latents) / (1 - signal).sqrt()
        offsets = (all_noise - perturbation - noise).mean(dim=(2, 3), keepdim=True)
        noise = noise + offsets
    return Draws(
        posterior=recorded[f"{variant}_vae_sample_noise"],
        noise=noise,
        perturbation=perturbation,
        timesteps=recorded[f"{variant}_timesteps"],
        dropped=recorded[f"{variant}_drop_mask"].bool() if variant == "drop" else torch.zeros(3, dtype=torch.bool),
    )


@torch.no_grad()
def training_states(model: DreamLLMForConditionalGeneration, ids: torch.Tensor) -> torch.Tensor:
    """States of the official training's unconditional sequence, in which ``<im_patch>`` stands for the queries."""
    states: torch.Tensor = model.model(input_ids=ids).last_hidden_state[0, 2:-2]
    return states


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_losses_are_those_of_the_official_code(
    model: DreamLLMForConditionalGeneration,
    converted: Path,
    batch: Batch,
    recorded: dict[str, torch.Tensor],
    report: DifferenceReport,
    variant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joint = joint_loss(model, converted, variant)
    posterior = joint.denoising.vae.encode(batch.pictures).latent_dist
    latents = posterior.mean + posterior.std * recorded[f"{variant}_vae_sample_noise"]
    chosen = draws(recorded, variant, latents * joint.denoising.vae.config.scaling_factor)
    unconditional = training_states(model, recorded["train_uncond_ids"])
    report.compare("training, unconditional states", unconditional, recorded["train_uncond_states"][0], **STATES)
    monkeypatch.setattr(Draws, "sample", lambda *_: chosen)
    monkeypatch.setattr(JointLoss, "unconditional_states", lambda _: unconditional)
    losses = joint(batch)
    for ours, theirs in (("loss", "loss"), ("lm", "lm_loss"), ("vm", "vm_loss")):
        expected = recorded[f"{variant}_{theirs}"][0]
        report.compare(f"training, {ours} loss", losses[ours], expected, atol=0, rtol=LOSS_TOLERANCE)


def test_the_gradients_are_those_of_the_official_code(
    model: DreamLLMForConditionalGeneration,
    converted: Path,
    batch: Batch,
    recorded: dict[str, torch.Tensor],
    report: DifferenceReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joint = joint_loss(model, converted, "base").requires_grad_(True)
    joint.denoising.vae.requires_grad_(False)
    chosen = draws(recorded, "base", torch.empty(0))
    monkeypatch.setattr(Draws, "sample", lambda *_: chosen)
    joint(batch)["loss"].backward()
    parameters = dict(joint.named_parameters())
    for official, ours in GRADIENTS.items():
        expected = recorded[f"base_grad:{official}"]
        gradient = parameters[ours].grad
        assert gradient is not None
        if official.endswith("dream_queries"):
            start = model.config.dream_query_token_id
            gradient = gradient[None, start : start + model.config.num_dream_queries]
        report.compare(
            f"gradient of {official}", gradient, expected, atol=GRADIENT_TOLERANCE * float(expected.abs().max())
        )
    model.zero_grad()


def test_noise_is_drawn_as_the_variants_say() -> None:
    torch.manual_seed(3)
    settings = DenoisingSettings(noise_offset=5.0, input_perturbation=0.1, drop_prob=0.5)
    drawn = Draws.sample(torch.zeros(400, 4, 8, 8), 1000, settings)
    assert drawn.noise.mean(dim=(2, 3)).std() == pytest.approx(5.0, rel=0.1)
    assert drawn.noise.std(dim=(2, 3)).mean() == pytest.approx(1.0, rel=0.1)
    assert drawn.perturbation is not None
    assert drawn.perturbation.std() == pytest.approx(0.1, rel=0.1)
    assert drawn.dropped.float().mean() == pytest.approx(0.5, abs=0.1)
    assert 0 <= int(drawn.timesteps.min()) < 50 < 950 < int(drawn.timesteps.max()) < 1000
