"""``dreamserve convert`` on the command line."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from tests.parity.converted import CHECKPOINT


def test_a_checkpoint_is_converted_and_the_report_shown_and_saved(tmp_path: Path) -> None:
    target, report = tmp_path / "target", tmp_path / "report.json"
    result = CliRunner().invoke(
        app, ["convert", str(CHECKPOINT), str(target), "--dtype", "bf16", "--report", str(report)]
    )
    assert result.exit_code == 0, result.output
    assert "477 tensors from stable_diffusion_head.bin" in result.output
    assert f"dreamserve serve --model {target}" in result.output
    assert json.loads(report.read_text())["dtypes"].keys() == {"bfloat16"}
    assert (target / "diffusion" / "unet" / "diffusion_pytorch_model.safetensors").is_file()


def test_folders_of_clip_and_stable_diffusion_can_be_given(tmp_path: Path) -> None:
    source = shutil.copytree(CHECKPOINT, tmp_path / "source")
    hub = shutil.move(source / "hub", tmp_path / "elsewhere")
    clip, diffusion = str(Path(hub) / "tiny-clip-a"), str(Path(hub) / "tiny-sd-a")
    options = ["--clip", clip, "--diffusion", diffusion]
    result = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "target"), *options])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", ["dream_embedding.bin", "tokenizer.model"])
def test_a_checkpoint_that_cannot_be_converted_ends_with_code_1_and_says_why(tmp_path: Path, name: str) -> None:
    source = shutil.copytree(CHECKPOINT, tmp_path / "source")
    (source / name).unlink()
    result = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "target")])
    assert result.exit_code == 1
    assert f"has no {name}" in result.stderr
    assert not (tmp_path / "target").exists()
