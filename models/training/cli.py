"""``dreamserve train``."""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import torch
import typer

from models.training.config import ConfigError, Stage, StageConfig, load_config, packaged_config
from models.training.curves import read_log
from models.training.recipe import Recipe, pretrain
from models.training.recipe import train as train_all
from models.training.stages import run_stage
from models.training.trainer import OtherRunError

StageName = Literal["pretrain", "align", "igpt", "sft"]


def train(
    stage: Annotated[
        StageName | None,
        typer.Option(help="One stage alone. Without it: the tiny model, from nothing to a checkpoint."),
    ] = None,
    config: Annotated[str, typer.Option(help="Of the stage: a TOML file, or one that comes along: tiny, 7b.")] = "tiny",
    work: Annotated[Path, typer.Option(help="Folder of the run; paths of the configuration begin there.")] = Path(
        "runs/dreamllm-tiny"
    ),
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write, without --stage.")] = Path("out/dreamllm-tiny"),
    seed: Annotated[int | None, typer.Option(help="Decides all that is random. Default: the configuration's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: torch's choice.")] = None,
    smoke: Annotated[bool, typer.Option(help="A few steps of everything; fails if a loss does not fall.")] = False,
) -> None:
    """Train DreamLLM. Run it again after a kill and it goes on.

    Several processes and FSDP: accelerate launch -m server.cli train --stage ...
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        match stage:
            case None:
                train_all(out, work, seed or 0, device, Recipe.smoke() if smoke else Recipe.tiny())
                typer.echo(f"wrote {out}")
                if smoke:
                    report_losses(work)
            case "pretrain":
                pretrain(work, seed or 0, device, (Recipe.smoke() if smoke else Recipe.tiny()).pretraining)
            case _:
                typer.echo(f"wrote {run_stage(find_config(config, Stage(stage), seed), work)}")
    except (ConfigError, OtherRunError, OSError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error


def find_config(name: str, stage: Stage, seed: int | None) -> StageConfig:
    """The configuration of a stage: a file, or a packaged one.

    Raises:
        ConfigError: there is none, it is wrong, or it is of another stage.
    """
    found = load_config(Path(name)) if name.endswith(".toml") else packaged_config(name, stage)
    if found.stage != stage:
        raise ConfigError(f"{name}: stage: it is {found.stage}, not {stage}")
    return found if seed is None else found.model_copy(update={"seed": seed})


def report_losses(work: Path) -> None:
    """Print how the loss of each stage went, without that of denoising: a few steps change it less than its noise does.

    Raises:
        ValueError: one did not fall.
    """
    for stage in Stage:
        points = read_log(work / stage)
        before, after = (
            sum(fmean(point[name] for point in some if name in point) for name in ("lm", "wish"))
            for some in (points[: len(points) // 3], points[-len(points) // 3 :])
        )
        typer.echo(f"{stage}: loss {before:.3f} in the first third of the steps, {after:.3f} in the last")
        if after >= before:
            raise ValueError(f"the loss of {stage} did not fall")
