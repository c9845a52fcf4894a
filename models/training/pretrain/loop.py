"""The training loop of the parts that see and draw: each a small module, on one device, its state one file.

Language model and stages have :mod:`models.training.trainer`, for many devices. As there, a run goes on after a kill as
if there had been none.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from models.training.trainer import OtherRunError

Loss = Callable[[int, random.Random], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a part is optimised: AdamW, a linear warm-up, a constant rate, and a linear descent to zero.

    Up to the descent a step does not depend on how many there will be, so a run can be made longer where it stopped.

    Attributes:
        steps: optimiser steps.
        learning_rate: its peak.
        warmup: steps of the linear warm-up.
        descent: share of the steps over which the rate falls to zero.
        weight_decay: of matrices; vectors have none.
        ema: decay of the running average that the part ends with; 0 keeps the last weights.
        save_every: steps between two checkpoints.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    descent: float = 0.3
    weight_decay: float = 0.01
    ema: float = 0.0
    save_every: int = 250

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / max(1.0, self.descent * self.steps)
        return self.learning_rate * min(rising, falling, 1.0)


class PartTraining:
    """The training of one part: a module, its schedule, and where its state is kept.

    The state on disk is a safetensors file that holds weights, their average and the optimiser's moments, and the step
    in its metadata. All randomness of a step follows from the seed and the step, so a resumed run goes on as if it had
    never stopped.
    """

    def __init__(self, name: str, module: nn.Module, schedule: Schedule, folder: Path, seed: int) -> None:
        self.name = name
        self.module = module
        self.schedule = schedule
        self.seed = seed
        self.path = folder / f"{name}.safetensors"
        self.log = folder / f"{name}.jsonl"
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if schedule.ema else {}
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        vectors = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=True)

    def run(self, loss: Loss) -> None:
        """Train to the end of the schedule from wherever the state on disk stands, then put the average in place.

        Args:
            loss: gives the loss of a step; draws all that is random from the generator it is handed or from torch.
        """
        start = self.restore()
        self.module.train()
        steps = range(start, self.schedule.steps)
        with tqdm(steps, desc=self.name, initial=start, total=self.schedule.steps, unit="step") as bar:
            smooth: float | None = None
            for step in bar:
                value = self.advance(step, loss)
                smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
                bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
                if (step + 1) % 50 == 0:
                    self.record(step + 1, smooth)
                if (step + 1) % self.schedule.save_every == 0 or step + 1 == self.schedule.steps:
                    self.save(step + 1)
        for n, average in self.average.items():
            self.parameters[n].data.copy_(average)
        self.module.eval()

    def advance(self, step: int, loss: Loss) -> float:
        """One optimiser step; returns its loss."""
        rng = random.Random(f"{self.seed}/{self.name}/{step}")
        torch.manual_seed(rng.getrandbits(62))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        value = loss(step, rng)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        if self.average:
            # A young average would remember the initial weights; let it forget them quickly at first.
            decay = min(self.schedule.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(self.average.values()), [p.data for p in self.parameters.values()], 1 - decay)
        return float(value.detach())

    def record(self, step: int, loss: float) -> None:
        """Append a point of the loss curve."""
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss}) + "\n")

    def save(self, step: int) -> None:
        """Write the state; a kill at any moment leaves the old one or the new one."""
        tensors = {f"weight.{n}": p.data for n, p in self.parameters.items()}
        tensors |= {f"average.{n}": t for n, t in self.average.items()}
        for n, p in self.parameters.items():
            tensors |= {f"optimizer.{key}.{n}": t for key, t in self.optimizer.state[p].items()}
        draft = self.path.with_suffix(".draft")
        metadata = {"step": str(step), "seed": str(self.seed), "schedule": json.dumps(asdict(self.schedule))}
        save_file({k: t.contiguous() for k, t in tensors.items()}, draft, metadata=metadata)
        draft.replace(self.path)

    def restore(self) -> int:
        """Read the state, if there is one. Returns the step to go on from.

        Raises:
            OtherRunError: the state is of another seed or schedule.
        """
        if not self.path.exists():
            return 0
        step = self.check(read_metadata(self.path))
        tensors = load_file(self.path)
        for n, p in self.parameters.items():
            p.data.copy_(tensors[f"weight.{n}"])
            if self.average:
                self.average[n].copy_(tensors[f"average.{n}"])
            # What never had a gradient (the vision tower's last layer, which is not read) has no moments.
            if f"optimizer.step.{n}" in tensors:
                self.optimizer.state[p] = {
                    "step": tensors[f"optimizer.step.{n}"].to(p.device),
                    # The fused optimiser wants the moments in the memory format of the weights.
                    "exp_avg": torch.empty_like(p).copy_(tensors[f"optimizer.exp_avg.{n}"]),
                    "exp_avg_sq": torch.empty_like(p).copy_(tensors[f"optimizer.exp_avg_sq.{n}"]),
                }
        return step

    def check(self, metadata: dict[str, str]) -> int:
        """The step that a state stands at, if this run would have come by there too.

        Raises:
            OtherRunError: it would not.
        """
        step, saved = int(metadata["step"]), Schedule(**json.loads(metadata["schedule"]))
        same = metadata["seed"] == str(self.seed) and replace(saved, steps=self.schedule.steps) == self.schedule
        constant_so_far = step <= saved.steps * (1 - saved.descent)
        if not same or (saved.steps != self.schedule.steps and not constant_so_far):
            raise OtherRunError(f"{self.path} is of another seed or schedule: remove it or work in another folder")
        return step


def load_average(folder: Path, name: str, module: nn.Module) -> None:
    """Put the running average of a part's state into a module, finished or not, and freeze it.

    Raises:
        OSError: the folder has no state of this part.
        RuntimeError: the module is not the one that was trained.
    """
    tensors = load_file(folder / f"{name}.safetensors")
    average = {n.removeprefix("average."): t for n, t in tensors.items() if n.startswith("average.")}
    module.load_state_dict(average)
    module.eval().requires_grad_(False)


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata
