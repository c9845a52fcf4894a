"""The parts of the joint loss that the official code's recorded step does not show."""

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.diffusion.schedulers import make_scheduler, predict_original
from models.training.assembly import DreamLLM
from models.training.config import Stage, packaged_config
from models.training.denoising_loss import DenoisingLoss, DenoisingSettings, Draws
from models.training.documents import Document, Drawn
from models.training.joint_loss import JointLoss, LossWeights
from models.training.pretrain.wish_encoder import WishEncoder
from models.training.sequence import Batch, Encoder, collate
from models.training.stages import load_start
from models.training.world import RESOLUTION, Scene, Shape, Wish
from tests.training.parts import write_tiny_parts

SCENE = Scene("white", (Shape("circle", "red", "big", "center"),))


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> DreamLLM:
    return load_start(packaged_config("tiny", Stage.ALIGN), write_tiny_parts(tmp_path_factory.mktemp("parts")))


@pytest.fixture(scope="module")
def batch(dream: DreamLLM) -> Batch:
    """Two bare captions, of which nothing but the pictures is learned; of one the wish is known."""
    encoder = Encoder(dream.model.config, dream.processor)
    documents = [
        Document(None, ("A red circle.", Drawn(SCENE, wish)), learned=False) for wish in (Wish.of(SCENE), None)
    ]
    examples = [encoder.encode(document, random.Random(0)) for document in documents]
    return collate(examples, dream.processor, denoised=1, side=RESOLUTION)


def denoising(dream: DreamLLM, **settings: float) -> DenoisingLoss:
    decoder = dream.decoder
    modules = (decoder.projector, decoder.unet, decoder.vae)
    return DenoisingLoss(*modules, decoder.scheduler_config, DenoisingSettings(**settings))


def joint(dream: DreamLLM, **weights: float) -> JointLoss:
    return JointLoss(dream.model, denoising(dream), LossWeights(**weights))


def test_only_known_wishes_are_learned(dream: DreamLLM, batch: Batch) -> None:
    loss = joint(dream, wish=1.0, vm=0.0)
    losses = loss(batch)
    states = batch.dream_states(dream.model.model(input_ids=batch.input_ids, pixel_values=batch.pixel_values)[0], 8)
    tokens = WishEncoder()([Wish.of(SCENE)])
    assert set(losses) == {"loss", "wish"}
    torch.testing.assert_close(losses["wish"], F.mse_loss(dream.decoder.projector(states[:1]), tokens))


def test_where_pictures_are_denoised_no_wish_is_learned_too(dream: DreamLLM, batch: Batch) -> None:
    losses = joint(dream, wish=2.0, vm=10.0)(batch)
    assert set(losses) == {"loss", "vm", "wish", "no_wish"}
    expected = 10 * losses["vm"] + 2 * (losses["wish"] + losses["no_wish"])
    torch.testing.assert_close(losses["loss"], expected)
    bos = torch.tensor([dream.model.config.bos_token_id])
    projected = dream.decoder.projector(dream.model.dream_states(bos).clone())
    torch.testing.assert_close(losses["no_wish"], F.mse_loss(projected, WishEncoder().unconditional()))


def test_a_batch_without_any_loss_can_be_differentiated(dream: DreamLLM, batch: Batch) -> None:
    losses = joint(dream)(replace(batch, pictures=None))
    assert set(losses) == {"loss"}
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    dream.model.zero_grad()


def test_velocity_is_learned_where_the_scheduler_says_so(dream: DreamLLM) -> None:
    loss = denoising(dream)
    assert loss.scheduler.config.prediction_type == "v_prediction"
    latents, noise, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([10, 400, 900])
    noisy = loss.scheduler.add_noise(latents, noise, timesteps)
    velocity = loss.target(latents, noise, timesteps)
    for index, timestep in enumerate(timesteps):
        sampler = make_scheduler("ddim", dream.decoder.scheduler_config, 20)
        original = predict_original(sampler, velocity[index], timestep, noisy[index])
        torch.testing.assert_close(original, latents[index], atol=1e-4, rtol=1e-4)


def test_weights_by_snr_count_one_more_for_velocity(dream: DreamLLM) -> None:
    loss = denoising(dream, snr_gamma=5.0)
    timesteps = torch.tensor([10, 500, 990])
    signal = loss.scheduler.alphas_cumprod[timesteps]
    ratio = signal / (1 - signal) + 1
    torch.testing.assert_close(loss.snr_weights(timesteps, 5.0), ratio.clamp(max=5) / ratio)


def test_dropped_conditions_need_something_in_their_place(dream: DreamLLM, batch: Batch) -> None:
    like = torch.zeros(1, *dream.decoder.latent_shape(RESOLUTION, RESOLUTION))
    draws = replace(Draws.sample(like, 1000, DenoisingSettings()), dropped=torch.tensor([True]))
    with pytest.raises(ValueError, match="no unconditional states"):
        denoising(dream)(batch.pictures, torch.zeros(1, 8, 256), None, draws)
