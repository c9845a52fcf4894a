"""The autoencoder gives latents as a denoiser wants them, and its decoder learns without changing what they mean."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.training.pretrain.autoencoder import edges, pretrained_autoencoder, train_decoder
from models.training.pretrain.denoiser import PoolSource
from tests.training.pretrain.short_runs import SHORT


def test_scaled_latents_have_deviation_one(folder: Path) -> None:
    latents = PoolSource(pretrained_autoencoder(folder), seed=1, size=64).at(0).latents
    assert latents.shape == (64, 4, 16, 16)
    assert float(latents.std()) == pytest.approx(1.0, abs=0.1)


def test_a_draw_from_the_posterior_is_its_mean(folder: Path) -> None:
    posterior = pretrained_autoencoder(folder).encode(torch.rand(1, 3, 64, 64)).latent_dist
    assert torch.allclose(posterior.sample(), posterior.mean, atol=1e-3)


def test_the_decoder_alone_learns_in_the_second_part(begun: Path) -> None:
    before = pretrained_autoencoder(begun)
    train_decoder(begun, 0, torch.device("cpu"), replace(SHORT, steps=2))
    after = pretrained_autoencoder(begun)
    moved = {name for name, weight in after.named_parameters() if not torch.equal(weight, before.get_parameter(name))}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)
    assert not any(parameter.requires_grad for parameter in after.parameters())


def test_edges_are_where_colors_meet() -> None:
    picture = torch.zeros(1, 3, 8, 8)
    picture[:, 1, :, 4:] = 1
    assert edges(picture)[0, 0, 0].tolist() == [False] * 3 + [True, True] + [False] * 3
