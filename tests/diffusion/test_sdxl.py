"""Stable Diffusion XL, compared with diffusers' own UNet and pipeline.

There are no recorded values of the official DreamLLM-SDXL: these tests compare the engine with diffusers on the
conditions that the official code makes of dream states, which are written out here once more.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.diffusion.job import Completed, RenderJob
from models.diffusion.pipeline import RenderPipeline
from tests.diffusion.stepped_engine import SteppedEngine
from tests.diffusion.tiny_sdxl import POOLED_DIM, SCHEDULER_CONFIG, random_sdxl_decoder
from tests.tiny_diffusion import (
    CROSS_ATTENTION_DIM,
    HIDDEN_SIZE,
    STATES_SHAPE,
    make_render_job,
    random_decoder,
    random_states,
)


@pytest.fixture
def sdxl() -> DiffusionDecoder:
    return random_sdxl_decoder()


def pooled(decoder: DiffusionDecoder, states: torch.Tensor) -> torch.Tensor:
    """The official pooled vector: the mean over the queries, projected."""
    assert decoder.pooled_projector is not None
    linear = decoder.pooled_projector.linear
    assert isinstance(linear, torch.nn.Linear)
    return states.mean(dim=0, keepdim=True) @ linear.weight.T + linear.bias


def drawn_by_diffusers(decoder: DiffusionDecoder, job: RenderJob, negative: torch.Tensor, output_type: str) -> Any:
    """Latents or pictures by diffusers' pipeline, with DDPM as in the official code."""
    pipeline = StableDiffusionXLPipeline(
        vae=decoder.vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=decoder.unet,
        scheduler=DDPMScheduler.from_config(decoder.scheduler_config),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt_embeds=decoder.projector(job.states[None]),
        pooled_prompt_embeds=pooled(decoder, job.states),
        negative_prompt_embeds=decoder.projector(negative[None]),
        negative_pooled_prompt_embeds=pooled(decoder, negative),
        width=job.width,
        height=job.height,
        original_size=(32, 32),
        target_size=(32, 32),
        num_inference_steps=job.steps,
        guidance_scale=job.guidance_scale,
        generator=torch.Generator().manual_seed(job.seed),
        output_type=output_type,
    ).images


@torch.inference_mode()
def test_the_unet_gets_the_mean_of_the_states_and_the_size_it_was_trained_on(sdxl: DiffusionDecoder) -> None:
    states = [random_states(seed) for seed in (1, 2, 3)]
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([5, 500, 900])
    predicted = sdxl.predict(latents, timesteps, Conditioning.cat([sdxl.condition(each) for each in states]))
    expected = sdxl.unet(
        latents,
        timesteps,
        encoder_hidden_states=sdxl.projector(torch.stack(states)),
        added_cond_kwargs={
            "text_embeds": torch.cat([pooled(sdxl, each) for each in states]),
            "time_ids": torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]]).repeat(3, 1),
        },
    ).sample
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("size", [{}, {"width": 64, "height": 48}])
def test_a_picture_equals_that_of_diffusers_pipeline(
    sdxl: DiffusionDecoder, negative_states: torch.Tensor, guidance_scale: float, size: dict[str, int]
) -> None:
    job = make_render_job("a", steps=5, guidance_scale=guidance_scale, seed=7, **size)
    drawn = SteppedEngine(sdxl, negative_states).draw(job)["a"]
    expected = drawn_by_diffusers(sdxl, job, negative_states, "latent")
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=1e-4)


def test_the_final_picture_equals_that_of_diffusers_pipeline(
    sdxl: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    outcomes: list[Completed] = []
    pipeline = RenderPipeline(
        sdxl,
        STATES_SHAPE,
        negative_states,
        lambda _, update: outcomes.append(update) if isinstance(update, Completed) else None,
    )
    pipeline.start()
    job = make_render_job("a", steps=5, seed=7)
    pipeline.add(job)
    pipeline.close(drain_s=60)
    (expected,) = drawn_by_diffusers(sdxl, job, negative_states, "np")
    (completed,) = outcomes
    assert np.abs(completed.image.pixels - expected * 255).max() <= 1


def test_a_job_draws_the_same_picture_alone_and_in_any_batch(
    sdxl: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    jobs = [
        make_render_job("default"),
        make_render_job("unguided", guidance_scale=1.0, steps=6),
        make_render_job("own negative", negative_states=random_states(5), scheduler="dpmpp_2m"),
        make_render_job("wide", width=64, scheduler="ddim"),
    ]
    together = SteppedEngine(sdxl, negative_states).draw(*jobs)
    for job in jobs:
        alone = SteppedEngine(sdxl, negative_states).draw(job)[job.id]
        torch.testing.assert_close(together[job.id], alone, atol=1e-3, rtol=0)


def test_negative_states_of_the_job_guide_with_their_own_pooled_vector(
    sdxl: DiffusionDecoder, negative_states: torch.Tensor
) -> None:
    own = random_states(5)
    job = make_render_job("a", negative_states=own)
    drawn = SteppedEngine(sdxl, negative_states).draw(job)["a"]
    torch.testing.assert_close(drawn, drawn_by_diffusers(sdxl, job, own, "latent"), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_saved_decoder_loads_and_computes_the_same(sdxl: DiffusionDecoder, tmp_path: Path) -> None:
    sdxl.save_pretrained(tmp_path)
    loaded = DiffusionDecoder.from_pretrained(tmp_path)
    latents, timesteps = torch.ones(1, 4, 16, 16), torch.tensor([300])
    predicted, expected = (
        each.predict(latents, timesteps, each.condition(random_states(1))) for each in (loaded, sdxl)
    )
    # Not bit for bit: kernels may sum in another order where the memory of the weights is aligned otherwise.
    torch.testing.assert_close(predicted, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loaded.decode(latents), sdxl.decode(latents), atol=1e-4, rtol=1e-4)


def test_the_vae_computes_in_float32_whatever_the_unet_does(
    sdxl: DiffusionDecoder, negative_states: torch.Tensor, tmp_path: Path
) -> None:
    sdxl.save_pretrained(tmp_path)
    loaded = DiffusionDecoder.from_pretrained(tmp_path, "cpu", torch.bfloat16)
    assert {name: module.dtype for name, module in loaded.modules.items()} == {
        "condition_projector": torch.bfloat16,
        "pooled_projector": torch.bfloat16,
        "unet": torch.bfloat16,
        "vae": torch.float32,
    }
    job = make_render_job("a")
    rough, exact = (SteppedEngine(each, negative_states).draw(job)["a"] for each in (loaded, sdxl))
    assert torch.nn.functional.cosine_similarity(rough.flatten(), exact.flatten(), dim=0) > 0.95


def test_a_decoder_whose_parts_do_not_fit_together_is_refused(sdxl: DiffusionDecoder) -> None:
    plain = random_decoder()
    narrow = ConditionProjector(HIDDEN_SIZE, POOLED_DIM - 1)

    def decoder_of(unet: UNet2DConditionModel, pooled_projector: ConditionProjector | None) -> DiffusionDecoder:
        return DiffusionDecoder(sdxl.projector, unet, sdxl.vae, sdxl.scheduler_config, sdxl.sampling, pooled_projector)

    with pytest.raises(ValueError, match="20 to the UNet and None to its projector"):
        decoder_of(sdxl.unet, None)
    with pytest.raises(ValueError, match="20 to the UNet and 19 to its projector"):
        decoder_of(sdxl.unet, narrow)
    with pytest.raises(ValueError, match="None to the UNet and 20 to its projector"):
        decoder_of(plain.unet, sdxl.pooled_projector)


def test_a_unet_with_other_added_conditions_is_refused(sdxl: DiffusionDecoder) -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=CROSS_ATTENTION_DIM,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        encoder_hid_dim=CROSS_ATTENTION_DIM,
    )
    with pytest.raises(ValueError, match="'text' are not supported"):
        DiffusionDecoder(sdxl.projector, unet, sdxl.vae, sdxl.scheduler_config, sdxl.sampling)


def test_the_published_unet_reads_1280_pooled_values_and_draws_1024_pixels() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
        )
        projector, pooled_projector = ConditionProjector(4096, 2048), ConditionProjector(4096, 1280)
    # That of Stable Diffusion XL base 1.0: so the blocks above are its blocks.
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684
    decoder = DiffusionDecoder(projector, unet, vae, SCHEDULER_CONFIG, SamplingDefaults(), pooled_projector)
    assert decoder.image_size == 1024
    assert decoder.description.size_multiple == 32
    states = torch.empty(196, 4096, device="meta")
    condition = decoder.condition(states)
    assert condition.states.shape == (1, 196, 2048)
    assert {name: added.shape for name, added in condition.added.items()} == {
        "text_embeds": (1, 1280),
        "time_ids": (1, 6),
    }
