"""``dreamserve train``."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from models.training.config import ConfigError, Stage, StageConfig, load_config, packaged_config
from models.training.recipe import Recipe, pretrain
from models.training.recipe import train as train_all
from models.training.stages import run_stage, unseen_losses
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
                recipe = Recipe.smoke() if smoke else Recipe.tiny()
                train_all(out, work, seed or 0, device, recipe)
                typer.echo(f"wrote {out}")
                if smoke:
                    report_losses(recipe, work, seed or 0)
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


def report_losses(recipe: Recipe, work: Path, seed: int) -> None:
    """Print what each stage did to the loss on documents that it never saw.

    Args:
        recipe: that was trained.
        work: folder of the run.
        seed: of the run.

    Raises:
        ValueError: one did not fall.
    """
    for config in recipe.stages:
        before, after = unseen_losses(config.model_copy(update={"seed": seed}), work, batches=4)
        typer.echo(f"{config.stage}: loss {before:.3f} before, {after:.3f} after")
        if after >= before:
            raise ValueError(f"the loss of {config.stage} did not fall")
