"""``dreamserve convert``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from models.dreamllm.conversion import ConversionError
from models.dreamllm.conversion import convert as run

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def convert(
    source: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The official checkpoint.")],
    target: Annotated[Path, typer.Argument(file_okay=False, help="Folder to make.")],
    clip: Annotated[
        Path | None, typer.Option(help="Folder with CLIP's config.json and preprocessor_config.json.")
    ] = None,
    diffusion: Annotated[
        Path | None, typer.Option(help="Folder with Stable Diffusion's configs of unet, vae and scheduler.")
    ] = None,
    dtype: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"], typer.Option(help="Of all weights; auto keeps each as it is.")
    ] = "auto",
    report: Annotated[Path | None, typer.Option(help="JSON file for what was read and ignored.")] = None,
) -> None:
    """Convert an official DreamLLM checkpoint to one that `dreamserve serve --model TARGET` serves.

    Only configurations are taken from CLIP's and Stable Diffusion's own releases; all weights are in the checkpoint.
    """
    console, errors = Console(), Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=errors) as progress:
            task = progress.add_task("converting", total=None)
            result = run(
                source,
                target,
                clip=clip,
                diffusion=diffusion,
                dtype=DTYPES[dtype],
                on_progress=lambda written, total: progress.update(task, completed=written, total=total),
            )
    except ConversionError as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    for line in result.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if report is not None:
        report.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    console.print(f"\ndreamserve serve --model {target}", markup=False, highlight=False, soft_wrap=True)
