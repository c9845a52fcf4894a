"""The training loop of language model and stages, on accelerate: one process or many, sharded or not, exact to resume.

Nothing random is remembered from step to step. Micro-batches are numbered over all steps and processes, a batch and
the noise of its loss follow from the seed and its number, and the learning rate from the step: so a run goes on after
a kill as if there had been none, and two processes do what one does with twice the gradient accumulation.
"""

import json
import logging
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, Self

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    gather_object,
    str_to_bool,
)
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from models.training.curves import Curves
from models.training.optimisation import Optimisation, PeakedOptimizer, make_optimizers
from models.training.precision import computes_in_bfloat16

logger = logging.getLogger(__name__)

# The fused attention of CPUs has a slow backward pass: with plain matrix products a step takes a sixth less time.
ATTENTION = {
    "cpu": [SDPBackend.MATH],
    "cuda": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}
CHECKPOINTS = "checkpoints"
PROGRESS = "progress.json"


class OtherRunError(RuntimeError):
    """A state on disk that this run cannot go on from."""


class MicroBatch(Protocol):
    """What an objective is called with."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""


# ``batches(first, stride)`` gives the micro-batches of the numbers first, first + stride, and so on without end.
Batches = Callable[[int, int], Iterator[MicroBatch]]


class Trainer:
    """Trains an objective.

    Args:
        name: of the stage.
        objective: called with a micro-batch, gives its losses by name, scalars; ``loss`` is the one to minimise.
            Parameters that require no gradient stay as they are.
        batches: gives the micro-batches.
        settings: how to optimise.
        folder: of the run: its checkpoints, log and curves.
        seed: decides everything random.
        identity: what else tells this run from others, as JSON has it: checkpoints of another are refused.
        accelerator: devices, precision and sharding; by default what accelerate's own configuration says.

    Raises:
        ValueError: an average or Muon is asked for of parameters that are sharded.

    Attributes:
        step: optimiser steps done.
    """

    def __init__(
        self,
        name: str,
        objective: nn.Module,
        batches: Batches,
        settings: Optimisation,
        folder: Path,
        seed: int,
        identity: Mapping[str, Any] | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.name = name
        self.batches = batches
        self.settings = settings
        self.folder = folder
        self.seed = seed
        self.identity = dict(identity or {})
        self.step = 0
        self.accelerator = accelerator or make_accelerator(settings)
        if settings.ema and self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError("ema: parameters that are sharded cannot be averaged; set it to 0")
        if settings.muon and self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError("muon: it needs whole matrices, not shards; set it to 0")
        made = make_optimizers(objective, settings)
        self.objective, *prepared = self.accelerator.prepare(objective, *(each.optimizer for each in made))
        self.optimizers = [PeakedOptimizer(new, each.peak) for new, each in zip(prepared, made, strict=True)]
        self.parameters = [p for p in self.objective.parameters() if p.requires_grad]
        self.average = EMAModel(self.parameters, decay=settings.ema, foreach=True) if settings.ema else None
        if self.average:
            self.accelerator.register_for_checkpointing(self.average)

    def run(self) -> None:
        """Train from the last checkpoint in the folder to the last step, then put the average in place, if any.

        Raises:
            OtherRunError: that checkpoint is of another run.
        """
        self.restore()
        self.objective.train()
        if self.step < self.settings.steps:
            self._train()
        if self.average:
            self.average.copy_to(self.parameters)
        self.objective.eval()

    def _train(self) -> None:
        steps, is_main = self.settings.steps, self.accelerator.is_main_process
        curves = Curves(self.folder, self.step) if is_main else None
        stream = self.numbered_batches()
        window: list[Mapping[str, torch.Tensor]] = []
        with tqdm(total=steps, initial=self.step, desc=self.name, unit="step", disable=not is_main) as bar:
            while self.step < steps:
                rate = self.settings.learning_rate * self.settings.fraction(self.step)
                window.append(self.advance(stream))
                last = self.step == steps
                if last or self.step % self.settings.log_every == 0:
                    point = self.mean(window)
                    window.clear()
                    bar.set_postfix(loss=f"{point['loss']:.4f}", refresh=False)
                    if curves:
                        curves.add(self.step, {**point, "learning_rate": rate})
                if last or self.step % self.settings.save_every == 0:
                    self.save()
                    if curves:
                        curves.draw()
                bar.update()
        if curves:
            curves.close()

    def numbered_batches(self) -> Iterator[tuple[int, MicroBatch]]:
        """The micro-batches of this process from where the run stands, with their numbers."""
        stride = self.accelerator.num_processes
        number = self.step * self.settings.accumulation * stride + self.accelerator.process_index
        for batch in self.batches(number, stride):
            yield number, batch
            number += stride

    def advance(self, stream: Iterator[tuple[int, MicroBatch]]) -> dict[str, torch.Tensor]:
        """One optimiser step; returns each loss of the micro-batches that have it, ``[micro-batches]``."""
        fraction = self.settings.fraction(self.step)
        for each in self.optimizers:
            for group in each.optimizer.param_groups:
                group["lr"] = fraction * each.peak
        collected: dict[str, list[torch.Tensor]] = defaultdict(list)
        for _ in range(self.settings.accumulation):
            number, batch = next(stream)
            torch.manual_seed(random.Random(f"{self.seed}/{self.name}/{number}").getrandbits(62))
            with self.accelerator.accumulate(self.objective), sdpa_kernel(ATTENTION[self.accelerator.device.type]):
                with self.accelerator.autocast():  # accelerate does so itself, but not where weights are sharded
                    losses: dict[str, torch.Tensor] = self.objective(batch.to(self.accelerator.device))
                self.accelerator.backward(losses["loss"])
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
                for each in self.optimizers:
                    each.optimizer.step()
                    each.optimizer.zero_grad()
            for name, loss in losses.items():
                collected[name].append(loss.detach().float())
        if self.average:
            self.average.step(self.parameters)
        self.step += 1
        return {name: torch.stack(values) for name, values in collected.items()}

    def mean(self, window: list[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """Mean of each loss over the steps that have it, of a step over the micro-batches that do, of all processes."""
        mine = [(name, step, losses[name].tolist()) for step, losses in enumerate(window) for name in losses]
        steps: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        # As objects, because one process may lack what another has.
        for name, step, values in gather_object(mine):
            steps[name][step] += values
        return {name: fmean(map(fmean, of_steps.values())) for name, of_steps in steps.items()}

    def save(self) -> None:
        """Write a checkpoint and remove the one before. A kill at any moment leaves a whole one."""
        folder = self.folder / CHECKPOINTS
        draft, final = folder / f"draft-{self.step}", folder / f"step-{self.step}"
        if self.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob("draft-*"):
                shutil.rmtree(leftover)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(draft))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            progress = {
                "step": self.step,
                "seed": self.seed,
                "settings": self.settings.model_dump(mode="json"),
                "identity": self.identity,
            }
            (draft / PROGRESS).write_text(json.dumps(progress, indent=2) + "\n")
            draft.replace(final)
            for old in folder.glob("step-*"):
                if old != final:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Load the last checkpoint, if there is one.

        Raises:
            OtherRunError: it is of another seed or other settings.
        """
        found = list((self.folder / CHECKPOINTS).glob("step-*"))
        if not found:
            return
        last = max(found, key=lambda folder: int(folder.name.removeprefix("step-")))
        progress = json.loads((last / PROGRESS).read_text())
        step, settings = progress["step"], Optimisation(**progress["settings"])
        same = (progress["seed"], progress["identity"]) == (self.seed, self.identity)
        if not same or not self.settings.same_until(step, settings):
            raise OtherRunError(f"{last} is of another seed or other settings: remove it or train in another folder")
        self.accelerator.load_state(str(last))
        self.step = step


def make_accelerator(settings: Optimisation) -> Accelerator:
    """What accelerate is told from here; the rest is in its own configuration (``accelerate config`` or ``launch``)."""
    # It would keep to the precision of the first stage that this process trained.
    AcceleratorState._reset_state()
    precision = settings.mixed_precision
    # Whoever asks for the device first decides for the whole process whether it is a CPU, and so how processes talk.
    state = PartialState(cpu=told("ACCELERATE_USE_CPU"))
    if precision == "bf16" and not computes_in_bfloat16(state.device):
        if state.is_main_process:
            logger.warning("mixed_precision: this CPU doesn't compute in bfloat16; training in float32")
        precision = "no"
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=settings.accumulation,
        fsdp_plugin=sharding(precision) if told("ACCELERATE_USE_FSDP") else None,
        # A batch without pictures uses neither vision projector nor condition projector.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def told(variable: str) -> bool:
    """Whether accelerate's configuration sets one of its switches, which reach a process by its environment."""
    return bool(str_to_bool(os.environ.get(variable, "false")))


def sharding(precision: str) -> FullyShardedDataParallelPlugin:
    """FSDP as accelerate's configuration has it, with gradients summed in float32 and losses left in theirs.

    By itself accelerate does both in the precision of the matrix products.

    Raises:
        ValueError: the configuration asks for the first version of FSDP.
    """
    computed = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    plugin = FullyShardedDataParallelPlugin(
        mixed_precision_policy=MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=torch.float32)
    )
    if plugin.fsdp_version != 2:
        raise ValueError("fsdp_config.fsdp_version must be 2: the first version cannot train part of the parameters")
    return plugin
