"""``dreamserve train``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from models.training.loop import OtherRunError
from models.training.recipe import Recipe
from models.training.recipe import train as run


def train(
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")] = Path("out/dreamllm-tiny"),
    work: Annotated[Path | None, typer.Option(help="Folder of unfinished stages. Default: runs/NAME.")] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …  Default: a GPU if there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: torch's choice.")] = None,
    scale: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the steps, to try the recipe out.")] = 1.0,
) -> None:
    """Train the tiny DreamLLM from nothing on a synthetic world. Run it again after a kill and it goes on."""
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    recipe = Recipe() if scale == 1.0 else Recipe().scaled(scale)
    typer.echo(f"training on {chosen}, seed {seed}, {torch.get_num_threads()} threads")
    try:
        run(out, work or Path("runs") / out.name, seed, chosen, recipe)
    except OtherRunError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"wrote {out}")
