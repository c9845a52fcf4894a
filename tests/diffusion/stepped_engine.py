"""An engine that a test steps by hand."""

import torch

from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.engine import DiffusionEngine, Latents
from models.diffusion.job import JobUpdate, Outcome, Progress, RenderJob
from models.diffusion.open_jobs import OpenJobs
from models.diffusion.stats import EngineCounters


class SteppedEngine:
    """An engine on the test's thread. What it hands over stays here."""

    def __init__(self, decoder: DiffusionDecoder, empty_prompt: torch.Tensor, max_batch: int = 8) -> None:
        self.counters = EngineCounters()
        self.updates: list[tuple[str, JobUpdate]] = []
        self.handed_over: list[Latents] = []
        self.open_jobs = OpenJobs(lambda job_id, update: self.updates.append((job_id, update)), self.counters)
        queries, hidden_size = empty_prompt.shape
        self.engine = DiffusionEngine(
            decoder,
            (queries, hidden_size),
            empty_prompt,
            self.open_jobs,
            self.handed_over.append,
            self.counters,
            max_batch,
        )

    def add(self, *jobs: RenderJob) -> None:
        for job in jobs:
            self.engine.validate(job)
            self.open_jobs.open(job)
            self.engine.add(job)

    def step(self) -> None:
        self.engine.step()

    def draw(self, *jobs: RenderJob) -> dict[str, torch.Tensor]:
        """Final latents ``[1, channels, h, w]`` of jobs that are added together."""
        self.add(*jobs)
        while not self.engine.idle:
            self.engine.step()
        return self.finals

    @property
    def finals(self) -> dict[str, torch.Tensor]:
        return {item.job.id: item.latents for item in self.handed_over if item.preview_index is None}

    def previews(self, job_id: str) -> list[Latents]:
        return [item for item in self.handed_over if item.job.id == job_id and item.preview_index is not None]

    def steps_done(self, job_id: str) -> int:
        return sum(isinstance(update, Progress) for told, update in self.updates if told == job_id)

    def outcomes(self) -> dict[str, Outcome]:
        return {job_id: update for job_id, update in self.updates if isinstance(update, Outcome)}
