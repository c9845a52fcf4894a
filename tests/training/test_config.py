"""Configurations of the stages: those that come along are whole, wrong ones are refused by the name of the field."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from models.training.config import PACKAGED, ConfigError, Parts, Stage, load_config, packaged_config
from server.cli import app

VALID = """
stage = "sft"
start = "igpt/model"
[data]
sources = [{ reader = "world", mixture = "instructions" }]
[optimisation]
steps = 10
batch_size = 2
learning_rate = 1e-3
"""


@pytest.mark.parametrize("name", ["tiny", "7b"])
def test_each_stage_begins_where_the_one_before_ends(name: str) -> None:
    configs = [packaged_config(name, stage) for stage in Stage]
    assert [config.stage for config in configs] == list(Stage)
    assert isinstance(configs[0].start, Parts)
    assert [config.start for config in configs[1:]] == [Path("align/model"), Path("igpt/model")]


def test_the_numbers_of_the_published_model_are_those_of_the_official_configurations() -> None:
    align, igpt, sft = (packaged_config("7b", stage).optimisation for stage in Stage)
    assert [settings.learning_rate for settings in (align, igpt, sft)] == [2e-3, 2e-5, 4e-5]
    losses = [packaged_config("7b", stage).loss for stage in (Stage.IGPT, Stage.SFT)]
    assert [(loss.lm, loss.vm, loss.wish) for loss in losses] == [(1, 10, 0)] * 2
    for settings in (align, igpt, sft):
        assert (settings.batch_size, settings.schedule, settings.weight_decay) == (16, "cosine", 0)
        assert settings.warmup == pytest.approx(0.003 * settings.steps, abs=1)
    start = packaged_config("7b", Stage.ALIGN).start
    assert isinstance(start, Parts)
    assert start.num_dream_queries == 64


def test_the_configuration_of_fsdp_wraps_the_layers_of_the_language_model() -> None:
    content = yaml.safe_load((PACKAGED / "7b" / "fsdp.yaml").read_text())
    assert content["distributed_type"] == "FSDP"
    assert content["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"] == "LlamaDecoderLayer"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"sft"', '"pretrain"', "stage: Input should be 'align', 'igpt' or 'sft'"),
        ("steps = 10", "", "optimisation.steps: Field required"),
        ("steps = 10", "steps = 10\nsteps_ = 1", "optimisation.steps_: Extra inputs are not permitted"),
        ('"instructions"', '"poems"', "data.sources.0.world.mixture: Input should be"),
        ('"world"', '"parquet"', "data.sources.0: Input tag 'parquet'"),
        ("steps = 10", "steps = 10\nlog_every = 7", "optimisation: Value error, save_every must be a multiple"),
        ("[data]", "[data", "Expected ']'"),
        ('stage = "sft"', 'stage = "align"\nloss = { lm = -1 }', "loss.lm: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_its_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "stage.toml"
    path.write_text(VALID)
    assert load_config(path).stage == Stage.SFT
    path.write_text(VALID.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_weights_of_a_table_of_which_rows_are_trained_must_not_decay(tmp_path: Path) -> None:
    path = tmp_path / "stage.toml"
    path.write_text(VALID.replace('"sft"', '"align"') + "weight_decay = 0.1\n")
    with pytest.raises(ConfigError, match="weight_decay must be 0 in align"):
        load_config(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "sft", "--config", "13b"], "no configuration '13b': give a file, or one of 7b, tiny"),
        (["--stage", "sft", "--config", "none.toml"], "none.toml: No such file or directory"),
        (["--stage", "align", "--config", str(PACKAGED / "tiny" / "sft.toml")], "stage: it is sft, not align"),
        (["--stage", "align"], "language to begin with"),
        (["--stage", "sft"], "igpt/model to begin with"),
        (["--stage", "dream"], "'dream' is not one of"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", *arguments, "--work", str(tmp_path)])
    assert result.exit_code != 0
    assert message in result.output
