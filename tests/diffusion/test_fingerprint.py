"""Servers and workers meet when, and only when, they have the same checkpoint."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.diffusion.fingerprint import checkpoint_id
from tests.tiny_diffusion import HIDDEN_SIZE, make_random_diffusion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_random_diffusion(tmp_path, hidden_size=HIDDEN_SIZE)


def test_the_same_checkpoint_has_the_same_id_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert checkpoint_id(copy) == checkpoint_id(folder)
    assert len(bytes.fromhex(checkpoint_id(folder))) == 8


def flip_a_bit(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def change_the_defaults(folder: Path) -> None:
    path = folder / "sampling_defaults.json"
    path.write_text(path.read_text().replace("4", "5"))


def swap_two_configurations(folder: Path) -> None:
    one, other = folder / "unet" / "config.json", folder / "vae" / "config.json"
    swapped = one.read_text(), other.read_text()
    other.write_text(swapped[0])
    one.write_text(swapped[1])


def add_a_module(folder: Path) -> None:
    shutil.copytree(folder / "condition_projector", folder / "pooled_projector")


@pytest.mark.parametrize("change", [flip_a_bit, change_the_defaults, swap_two_configurations, add_a_module])
def test_a_checkpoint_that_differs_in_anything_has_another_id(folder: Path, change: Callable[[Path], None]) -> None:
    before = checkpoint_id(folder)
    change(folder)
    assert checkpoint_id(folder) != before


def test_files_that_no_decoder_reads_do_not_count(folder: Path) -> None:
    before = checkpoint_id(folder)
    (folder / "README.md").write_text("A model.")
    (folder / ".DS_Store").write_bytes(b"\0")
    assert checkpoint_id(folder) == before


def test_a_folder_without_a_checkpoint_has_no_id(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint_id(tmp_path)
