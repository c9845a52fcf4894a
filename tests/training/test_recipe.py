"""The recipe runs from nothing to a checkpoint that loads, and the losses fall on the way."""

from pathlib import Path

import pytest
import torch

from models.diffusion.decoder import DiffusionDecoder
from models.dreamllm import DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.training.cli import report_losses
from models.training.config import Stage
from models.training.curves import LOG, PICTURE
from models.training.recipe import Recipe, train
from models.training.stages import MODEL, run_stage

RECIPE = Recipe.smoke()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in which everything was trained a little."""
    folder = tmp_path_factory.mktemp("work")
    train(folder / "checkpoint", folder, 0, torch.device("cpu"), RECIPE)
    return folder


def test_the_recipe_writes_a_checkpoint_that_loads(work: Path) -> None:
    out = work / "checkpoint"
    model = DreamLLMForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    processor = DreamLLMProcessor.from_pretrained(out)
    decoder = DiffusionDecoder.from_pretrained(out / "diffusion")
    ids = processor(text="<s>a red circle", add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    states = model.dream_states(ids)
    assert states.shape == (model.config.num_dream_queries, model.config.text_config.hidden_size)
    assert decoder.projector(states).shape[-1] == decoder.unet.config.cross_attention_dim
    assert decoder.sampling.steps <= 20
    assert model.generation_config.do_sample
    files = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert files <= {".json", ".safetensors", ".jinja"}


def test_the_losses_of_all_stages_fall(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_losses(RECIPE, work, seed=0)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(Stage)
    assert all((work / stage / PICTURE).is_file() for stage in Stage)


def test_a_loss_that_does_not_fall_is_an_error(work: Path, tmp_path: Path) -> None:
    for part in work.iterdir():
        (tmp_path / part.name).symlink_to(part)
    # A stage that ends with the model it began with.
    (tmp_path / Stage.SFT).unlink()
    (tmp_path / Stage.SFT).mkdir()
    (tmp_path / Stage.SFT / MODEL).symlink_to(work / Stage.IGPT / MODEL)
    with pytest.raises(ValueError, match="the loss of sft did not fall"):
        report_losses(RECIPE, tmp_path, seed=0)


def test_a_finished_stage_is_not_repeated(work: Path) -> None:
    log, weights = work / Stage.SFT / LOG, work / Stage.SFT / MODEL / "model.safetensors"
    before = log.read_bytes(), weights.read_bytes()
    run_stage(RECIPE.stages[-1], work)
    assert (log.read_bytes(), weights.read_bytes()) == before
