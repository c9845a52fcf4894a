"""How a stage is optimised: its length, its batches, AdamW with or without Muon, and the learning rate at each step."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from models.training.muon import Muon


class Optimisation(BaseModel):
    """Settings of the optimisers and of the loop around them.

    Attributes:
        steps: optimiser steps.
        batch_size: documents in a micro-batch of one process.
        accumulation: micro-batches of a step in each process.
        learning_rate: of AdamW, its peak, after a linear warm-up.
        muon: the same of Muon, which then has the matrices of the language model's layers; 0 leaves them to AdamW. Its
            updates are scaled to the size of AdamW's.
        schedule: ``cosine`` falls to zero from the peak on; ``trapezoid`` stays there and falls linearly at the end.
            Up to that fall a step does not depend on how many there will be, so a run can be made longer.
        warmup: steps of the warm-up.
        descent: share of the steps over which a trapezoid falls.
        betas: of AdamW.
        weight_decay: of matrices, by both; vectors and embeddings have none.
        max_grad_norm: to which gradients are clipped.
        ema: decay of a running average that the stage ends with; 0 keeps the last weights.
        mixed_precision: what matrix products are computed in; weights and their updates stay float32. ``bf16`` is
            float32 too, with a warning, on CPUs that have no kernels for it.
        gradient_checkpointing: whether activations of the language model are computed twice to save memory.
        log_every: steps between two points of the curves, each the mean since the last.
        save_every: steps between two checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulation: int = Field(1, gt=0)
    learning_rate: float = Field(gt=0)
    muon: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    warmup: int = Field(0, ge=0)
    descent: float = Field(0.3, gt=0, le=1)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    log_every: int = Field(10, gt=0)
    save_every: int = Field(500, gt=0)

    @model_validator(mode="after")
    def _saved_steps_are_logged(self) -> Self:
        if self.save_every % self.log_every:
            raise ValueError(f"save_every must be a multiple of log_every, {self.log_every}, not {self.save_every}")
        return self

    def fraction(self, step: int) -> float:
        """Of the peak of a learning rate, what it is at a step, counted from 0."""
        rising = (step + 1) / max(1, self.warmup)
        if self.schedule == "trapezoid":
            falling = (self.steps - step) / max(1.0, self.descent * self.steps)
        else:
            done = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
            falling = 0.5 * (1 + math.cos(math.pi * done))
        return min(rising, falling, 1.0)

    def same_until(self, step: int, other: "Optimisation") -> bool:
        """Whether a run with other settings would have come by this step too: lengths and intervals may differ."""
        free = {"steps", "log_every", "save_every"}
        same = self.model_dump(exclude=free) == other.model_dump(exclude=free)
        return same and all(self.fraction(i) == other.fraction(i) for i in range(step))


@dataclass(frozen=True, slots=True)
class PeakedOptimizer:
    """An optimiser, and the peak of its learning rate."""

    optimizer: torch.optim.Optimizer
    peak: float


def make_optimizers(objective: nn.Module, settings: Optimisation) -> list[PeakedOptimizer]:
    """AdamW, and Muon if it is asked for, for the parameters that require a gradient.

    Muon (Jordan et al. 2024, scaled as by Liu et al. 2025, "Muon is scalable for LLM training") makes all directions of
    an update equally large. A small language model learns by it in hundreds of steps which attribute belongs to which
    shape of a picture; AdamW had not got there after thousands.
    """
    trained = [p for p in objective.parameters() if p.requires_grad]
    hidden = {
        p
        for layer in objective.modules()
        if settings.muon and isinstance(layer, LlamaDecoderLayer)
        for p in layer.parameters()
        if p.ndim == 2
    }
    embeddings = {p for module in objective.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    decayed = [p for p in trained if p not in hidden and p not in embeddings and p.ndim > 1]
    others = [p for p in trained if p not in hidden and (p in embeddings or p.ndim == 1)]
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, settings.weight_decay), (others, 0.0))
        if parameters
    ]
    adamw = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    optimizers = [PeakedOptimizer(adamw, settings.learning_rate)]
    if matrices := [p for p in trained if p in hidden]:
        muon = Muon(matrices, lr=settings.muon, weight_decay=settings.weight_decay)
        optimizers.append(PeakedOptimizer(muon, settings.muon))
    return optimizers
