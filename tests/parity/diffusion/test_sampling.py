"""Pictures drawn by our engine from recorded dream states against the official pipeline's.

Everything is compared at every step: timesteps, the UNet's outputs, latents, and the picture at the end. Where the
official run drew all noise from one generator, so does the job, from the same seed. Where it did not, the job's draws
are answered with the recorded noise.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.job import Completed, JobUpdate, RenderJob, SchedulerName
from models.diffusion.pipeline import RenderPipeline
from tests.diffusion.stepped_engine import SteppedEngine
from tests.parity.difference_report import DifferenceReport
from tests.parity.diffusion.official import golden

LATENTS1_SEED = 4242
"""``latents1`` are the first draw of this seed."""

RECORDED_SEED = 1_000_000
"""Jobs from this seed on are answered with recorded noise."""

PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the official pipeline.

    Attributes:
        name: prefix of its arrays.
        scheduler: the sampler.
        prompts: whose dream states were drawn, one for each row.
        seeds: of each row's generator; none if initial latents were given and the noise must be played back.
        latents: array with the initial latents, where ``seeds`` is empty.
        negative: whose states guided.
        guidance_scale: 1 is without guidance.
        steps: denoising steps.
    """

    name: str
    scheduler: SchedulerName
    prompts: tuple[str, ...] = ("prompt0",)
    seeds: tuple[int, ...] = ()
    latents: str = "latents1"
    negative: str = "uncond"
    guidance_scale: float = 3.5
    steps: int = 5


BOTH = ("prompt0", "prompt1")

RUNS = [
    Run("ddpm_auto", "ddpm", seeds=(21,)),
    Run("ddpm2_genlist", "ddpm", BOTH, seeds=(31, 32)),
    Run("ddpm1", "ddpm"),
    Run("ddpm2same", "ddpm", ("prompt0", "prompt0"), latents="latents2"),
    Run("ddim1", "ddim", seeds=(LATENTS1_SEED,)),
    Run("ddim_nocfg", "ddim", seeds=(LATENTS1_SEED,), guidance_scale=1.0),
    Run("ddim_negative", "ddim", seeds=(LATENTS1_SEED,), negative="negative"),
    Run("ddim2_leftpad", "ddim", BOTH, latents="latents2"),
]

FINAL_ONLY = [
    (Run("ddpm2_genlist", "ddpm", BOTH, seeds=(31, 32)), "ddpm2_genlist_singles"),
    (Run("ddim2", "ddim", BOTH, latents="latents2"), "ddim2_singles"),
    (Run("ddim20", "ddim", ("prompt2",), seeds=(LATENTS1_SEED,), steps=20), "ddim20"),
]


def arrays_of(run: Run) -> dict[str, torch.Tensor]:
    """What was recorded of a run."""
    arrays = golden("diffusion")
    prefix = f"{run.name}_"
    own = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    # Either drawn by the pipeline, and recorded with the run, or given to it.
    return {"init_latents": arrays[run.latents], **own}


def jobs_of(run: Run, decoder: DiffusionDecoder) -> list[RenderJob]:
    """A job for each row."""
    states = golden("dream_states")
    seeds = run.seeds or range(RECORDED_SEED, RECORDED_SEED + len(run.prompts))
    return [
        RenderJob(
            id=str(row),
            states=states[f"{prompt}_states"][0],
            # The engine has those of the empty prompt itself.
            negative_states=None if run.negative == "uncond" else states[f"{run.negative}_states"][0],
            width=decoder.image_size,
            height=decoder.image_size,
            steps=run.steps,
            guidance_scale=run.guidance_scale,
            scheduler=run.scheduler,
            seed=seed,
        )
        for row, (prompt, seed) in enumerate(zip(run.prompts, seeds, strict=True))
    ]


class RecordedNoise:
    """Answers the draws of jobs, told apart by their seeds, with recorded noise. Takes the place of ``torch.randn``."""

    def __init__(self, run: Run) -> None:
        recorded = golden("diffusion")
        initial = recorded[run.latents]
        steps = recorded.get(f"{run.name}_noise", torch.empty(0, len(initial)))
        self.left = {
            RECORDED_SEED + row: [initial[row : row + 1], *steps[:, row : row + 1]] for row in range(len(initial))
        }

    def __call__(self, shape: Sequence[int], *, generator: torch.Generator, **_: object) -> torch.Tensor:
        noise: torch.Tensor = self.left[generator.initial_seed()].pop(0)
        assert noise.shape == tuple(shape)
        return noise


@pytest.fixture
def recorded_noise(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Recorded noise for a run that needs it; all of it must be drawn."""
    if run.seeds:
        yield
        return
    noise = RecordedNoise(run)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", noise)
        yield
    assert not any(noise.left.values())


class UNetCalls:
    """Records all calls of a decoder's UNet, one for each step.

    Each row of the official batch is one of ours: ours has the two branches of a job side by side, the official one all
    negative rows before all prompt rows.
    """

    def __init__(self, decoder: DiffusionDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self._timesteps: list[torch.Tensor] = []
        self._latents: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []
        self._predict = decoder.predict
        monkeypatch.setattr(decoder, "predict", self)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        output = self._predict(latents, timesteps, condition)
        self._timesteps.append(timesteps)
        self._latents.append(latents)
        self._outputs.append(output)
        return output

    @property
    def timesteps(self) -> torch.Tensor:
        """``[steps]``, the same for all rows."""
        timesteps = torch.stack(self._timesteps)
        assert (timesteps == timesteps[:, :1]).all()
        return timesteps[:, 0]

    def latents(self, jobs: int) -> torch.Tensor:
        """Before each step, ``[steps, jobs, channels, h, w]``."""
        return torch.stack(self._latents)[:, :: self._branches(jobs)]

    def outputs(self, jobs: int) -> torch.Tensor:
        """``[steps, branches * jobs, channels, h, w]`` in the official order."""
        outputs, branches = torch.stack(self._outputs), self._branches(jobs)
        return torch.cat([outputs[:, branch::branches] for branch in range(branches)], dim=1)

    def _branches(self, jobs: int) -> int:
        return len(self._outputs[0]) // jobs


def draw(run: Run, decoder: DiffusionDecoder) -> torch.Tensor:
    """Final latents ``[rows, channels, h, w]`` of a run's jobs, drawn in one batch."""
    engine = SteppedEngine(decoder, golden("dream_states")["uncond_states"][0])
    finals = engine.draw(*jobs_of(run, decoder))
    return torch.cat([finals[str(row)] for row in range(len(run.prompts))])


@pytest.mark.usefixtures("recorded_noise")
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_step_equals_that_of_the_official_pipeline(
    official_decoder: DiffusionDecoder, report: DifferenceReport, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    recorded = arrays_of(run)
    unet = UNetCalls(official_decoder, monkeypatch)
    final = draw(run, official_decoder)
    before = unet.latents(jobs=len(run.prompts))
    after = torch.cat([before[1:], final[None]])
    decoded = official_decoder.vae.decode(final / official_decoder.vae.config.scaling_factor).sample
    picture = official_decoder.decode(final)
    unequal = (picture != recorded["image_uint8"]).float().mean()

    assert unet.timesteps.tolist() == recorded["timesteps"].tolist()
    report.compare(f"{run.name}: initial noise", before[0], recorded["init_latents"], atol=0)
    outputs = unet.outputs(jobs=len(run.prompts))
    report.compare(f"{run.name}: UNet outputs", outputs, recorded["eps"], atol=1e-3)
    report.compare(f"{run.name}: latents of each step", after, recorded["step_latents"], atol=5e-3, rtol=1e-4)
    report.compare(f"{run.name}: VAE output", decoded, recorded["decoded"], atol=1e-3)
    report.compare(f"{run.name}: picture, of 255", picture, recorded["image_uint8"], atol=1)
    report.compare(f"{run.name}: share of unequal bytes", unequal, torch.tensor(0.0), atol=1e-2)


@pytest.mark.usefixtures("recorded_noise")
@pytest.mark.parametrize(("run", "recorded"), FINAL_ONLY, ids=[recorded for _, recorded in FINAL_ONLY])
def test_the_final_latents_equal_those_of_the_official_pipeline(
    official_decoder: DiffusionDecoder, report: DifferenceReport, run: Run, recorded: str
) -> None:
    final = draw(run, official_decoder)
    expected = golden("diffusion")[f"{recorded}_final_latents"]
    report.compare(f"{recorded}: final latents", final, expected, atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("run", [run for run in RUNS if run.seeds], ids=lambda run: run.name)
def test_the_files_that_a_pool_sends_out_hold_the_official_pictures(
    official_decoder: DiffusionDecoder, report: DifferenceReport, run: Run
) -> None:
    outcomes: dict[str, JobUpdate] = {}
    empty_prompt = golden("dream_states")["uncond_states"][0]
    queries, hidden_size = empty_prompt.shape
    pipeline = RenderPipeline(official_decoder, (queries, hidden_size), empty_prompt, outcomes.__setitem__)
    pipeline.start()
    for job in jobs_of(run, official_decoder):
        pipeline.add(job)
    pipeline.close(drain_s=PATIENCE_S)
    for row, recorded in enumerate(arrays_of(run)["image_uint8"]):
        outcome = outcomes[str(row)]
        assert isinstance(outcome, Completed)
        picture = np.array(Image.open(io.BytesIO(outcome.image.data)))
        report.compare("PNG files of the render pipeline, of 255", picture, recorded, atol=1)
