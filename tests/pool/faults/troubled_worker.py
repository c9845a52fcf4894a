"""``dreamserve worker`` as it is, but for the jobs: some stop halfway until they are let go on, some are poison.

Runs in a process that :mod:`tests.pool.faults.fleet` forks.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from models.diffusion import engine
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.sample import Sample
from server import cli

KILLS_THE_PROCESS = 666
"""The seed of a job that takes the process with it halfway, as a bug in a kernel does."""
KILLS_THE_ENGINE = 667
"""The seed of a job after half of which the device is of no more use."""


class Predict(Protocol):
    """One UNet call; see :func:`models.diffusion.sample.predict`."""

    def __call__(self, decoder: DiffusionDecoder, samples: Sequence[Sample]) -> Sequence[torch.Tensor]: ...


def work(arguments: Sequence[str], environment: Mapping[str, str], brake: Path, log: Path) -> None:
    """Run the command with these arguments and settings; it ends with its exit code.

    Args:
        arguments: of ``dreamserve worker``.
        environment: settings.
        brake: a file. While somebody has locked it, no job gets beyond its half.
        log: where to write what would go to the terminal.
    """
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.update(environment)
    torch.set_num_threads(1)
    engine.predict = partial(_troubled, engine.predict, brake)
    sys.argv = ["dreamserve", "worker", *arguments]
    cli.main()


def _troubled(
    predict: Predict, brake: Path, decoder: DiffusionDecoder, samples: Sequence[Sample]
) -> Sequence[torch.Tensor]:
    halfway = [sample.job for sample in samples if 2 * sample.step >= sample.job.steps]
    if halfway:
        with brake.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    for job in halfway:
        if job.seed == KILLS_THE_PROCESS:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.seed == KILLS_THE_ENGINE:
            raise torch.AcceleratorError("device-side assert triggered")
    return predict(decoder, samples)
