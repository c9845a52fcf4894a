"""Conversion: what comes out, in whatever layout it went in, and what is refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from models.dreamllm.conversion import ConversionError, convert
from tests.parity.converted import CHECKPOINT
from tests.parity.diffusion.official import OFFICIAL

LAYOUTS = {
    "sharded safetensors": OFFICIAL / "layout_variants" / "sharded_safetensors",
    "FSDP": OFFICIAL / "layout_variants" / "fsdp_pytorch_model_bin",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkpoint to be changed."""
    return shutil.copytree(CHECKPOINT, tmp_path / "source")


@pytest.fixture
def fsdp_source(source: Path) -> Path:
    (source / "model.safetensors").unlink()
    return shutil.copytree(LAYOUTS["FSDP"], source, dirs_exist_ok=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(source: Path, target: Path, **options: Path) -> str:
    """The message with which a conversion is refused; nothing may be left of it."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(ConversionError) as error:
        convert(source, target, **options)
    assert sorted(target.parent.iterdir()) == before
    return str(error.value)


def edit_bin(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


def edit_json(path: Path, edit: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_the_same_bytes(converted: Path, source: Path, layout: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    shutil.copytree(layout, source, dirs_exist_ok=True)
    convert(source, tmp_path / "target")
    assert files(tmp_path / "target") == files(converted)


def test_only_safetensors_and_descriptions_come_out(converted: Path) -> None:
    assert {Path(name).suffix for name in files(converted)} == {".json", ".jinja", ".safetensors"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in converted.rglob("*") if path.is_file())


def test_the_model_loads_with_nothing_missing_and_nothing_left_over(converted: Path) -> None:
    _, info = AutoModelForImageTextToText.from_pretrained(converted, output_loading_info=True)
    assert not any(info.values())


def test_plugin_files_win_over_the_weights_of_the_hub(converted: Path) -> None:
    ours = load_file(converted / "diffusion/unet/diffusion_pytorch_model.safetensors")
    hub = load_file(CHECKPOINT / "hub/tiny-sd-a/unet/diffusion_pytorch_model.safetensors")
    own = torch.load(CHECKPOINT / "stable_diffusion_head.bin", weights_only=True)
    assert not torch.equal(ours["conv_in.weight"], hub["conv_in.weight"])
    assert all(torch.equal(tensor, own[f"unet.{name}"]) for name, tensor in ours.items())


def test_queries_are_rows_of_the_embeddings_and_zeros_of_the_head(converted: Path) -> None:
    tensors = load_file(converted / "model.safetensors")
    official = load_file(CHECKPOINT / "model.safetensors")
    queries = torch.load(CHECKPOINT / "dream_embedding.bin", weights_only=True)["dream_queries"][0]
    embeddings = tensors["model.language_model.embed_tokens.weight"]
    assert torch.equal(embeddings, torch.cat([official["model.embed_tokens.weight"], queries]))
    head = tensors["lm_head.weight"]
    assert torch.equal(head, torch.cat([official["lm_head.weight"], torch.zeros_like(queries)]))


def test_large_outputs_are_sharded_with_an_index(converted: Path, tmp_path: Path) -> None:
    convert(CHECKPOINT, tmp_path / "target", max_shard_bytes=300_000)
    names = files(tmp_path / "target").keys()
    assert "model.safetensors.index.json" in names
    assert "diffusion/unet/diffusion_pytorch_model.safetensors.index.json" in names
    one = AutoModelForImageTextToText.from_pretrained(converted).state_dict()
    many = AutoModelForImageTextToText.from_pretrained(tmp_path / "target").state_dict()
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_weights_are_cast_to_the_dtype_asked_for(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    report = convert(CHECKPOINT, tmp_path / "target", dtype=dtype)
    tensors = load_file(tmp_path / "target/model.safetensors")
    official = load_file(CHECKPOINT / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert torch.equal(tensors["model.language_model.norm.weight"], official["model.norm.weight"].to(dtype))
    assert json.loads((tmp_path / "target/config.json").read_text())["dtype"] == name
    assert report.dtypes.keys() == {name}


def test_a_number_that_float16_cannot_hold_is_an_error(source: Path, tmp_path: Path) -> None:
    edit_bin(source / "stable_diffusion_head.bin", lambda tensors: tensors["unet.conv_in.bias"].fill_(1e6))
    with pytest.raises(ConversionError, match=r"conv_in\.bias has numbers that float16 cannot hold"):
        convert(source, tmp_path / "target", dtype=torch.float16)


def test_the_report_says_what_was_read_and_ignored(fsdp_source: Path, tmp_path: Path) -> None:
    shutil.copy(CHECKPOINT / "dream_embedding.bin", fsdp_source / "training_args.bin")
    report = convert(fsdp_source, tmp_path / "target")
    assert report.files == {
        "pytorch_model.bin": 30,
        "dream_embedding.bin": 1,
        "clip_vision_embedding.bin": 57,
        "stable_diffusion_head.bin": 477,
    }
    reasons = set(report.ignored_tensors.values())
    assert len(reasons) == 4
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in report.ignored_tensors
    assert report.ignored_files == ("training_args.bin",)
    assert any("training_args.bin" in line for line in report.lines())


@pytest.mark.parametrize(
    "name",
    [
        "dream_embedding.bin",
        "clip_vision_embedding.bin",
        "stable_diffusion_head.bin",
        "model.safetensors",
        "tokenizer.model",
        "config.json",
    ],
)
def test_a_missing_file_is_named(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).unlink()
    assert name in refused(source, tmp_path / "target")


def test_a_missing_shard_is_named(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    shutil.copytree(LAYOUTS["sharded safetensors"], source, dirs_exist_ok=True)
    (source / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors" in refused(source, tmp_path / "target")


def test_queries_in_a_pytorch_model_do_not_stand_in_for_their_file(fsdp_source: Path, tmp_path: Path) -> None:
    (fsdp_source / "dream_embedding.bin").unlink()
    assert "dream_embedding.bin" in refused(fsdp_source, tmp_path / "target")


def test_all_missing_extra_and_misshapen_tensors_are_listed(source: Path, tmp_path: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
    del tensors["model.norm.weight"]
    save_file(tensors, source / "model.safetensors")

    def spoil(head: dict[str, torch.Tensor]) -> None:
        head["unet.conv_in.bias"] = torch.zeros(3)
        head["text_encoder.weight"] = torch.zeros(3)
        del head["vae.decoder.conv_out.bias"]

    edit_bin(source / "stable_diffusion_head.bin", spoil)
    edit_bin(source / "dream_embedding.bin", lambda held: held.update(dream_queries=torch.zeros(1, 9, 64)))
    message = refused(source, tmp_path / "target")
    for problem in (
        "missing model.norm.weight [64]",
        "unexpected model.layers.9.mlp.up_proj.weight",
        "unet.conv_in.bias has shape [3], not [16]",
        "unexpected text_encoder.weight",
        "missing vae.decoder.conv_out.bias [3]",
        "dream_queries has shape [1, 9, 64], not [1, 8, 64]",
    ):
        assert problem in message


def test_copies_that_disagree_with_their_file_are_an_error(fsdp_source: Path, tmp_path: Path) -> None:
    edit_bin(fsdp_source / "dream_embedding.bin", lambda held: held["dream_queries"].add_(1))
    message = refused(fsdp_source, tmp_path / "target")
    assert message == "dream_embedding.bin and pytorch_model.bin have different weights of dream_queries"


class Payload:
    """A pickle that would run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_with_code_is_refused_and_not_run(
    source: Path, tmp_path: Path, save: Callable[[object, Path], object]
) -> None:
    save({"dream_queries": Payload(tmp_path / "proof")}, source / "dream_embedding.bin")
    assert "dream_embedding.bin" in refused(source, tmp_path / "target")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("plugin", "key", "option"),
    [
        ("clip_vision_embedding", "clip_vision_model_name_or_path", "--clip"),
        ("stable_diffusion_head", "diffusion_name_or_path", "--diffusion"),
    ],
)
def test_a_name_of_the_hub_without_files_is_an_error_that_names_the_option(
    source: Path, tmp_path: Path, plugin: str, key: str, option: str
) -> None:
    def rename(config: dict[str, object]) -> None:
        config["plugins_init_kwargs"][plugin][key] = "nobody/has-this-model"  # type: ignore[index]

    edit_json(source / "config.json", rename)
    message = refused(source, tmp_path / "target")
    assert option in message
    assert "nobody/has-this-model" in message
    folder = {"--clip": "tiny-clip-a", "--diffusion": "tiny-sd-a"}[option]
    convert(source, tmp_path / "target", **{option.removeprefix("--"): CHECKPOINT / "hub" / folder})


def test_a_name_of_the_hub_is_looked_up_in_its_cache(
    source: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "cache/models--some--clip/snapshots/0123"
    shutil.copytree(CHECKPOINT / "hub/tiny-clip-a", snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def rename(config: dict[str, object]) -> None:
        config["plugins_init_kwargs"]["clip_vision_embedding"]["clip_vision_model_name_or_path"] = "some/clip"  # type: ignore[index]

    edit_json(source / "config.json", rename)
    convert(source, tmp_path / "target")
    assert files(tmp_path / "target") == files(converted)


def test_an_existing_target_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target/precious").write_text("mine")
    assert "exists" in refused(CHECKPOINT, tmp_path / "target")
    assert (tmp_path / "target/precious").read_text() == "mine"


def test_an_empty_target_and_the_draft_of_a_killed_run_are_used(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / ".target.partial").mkdir()
    (tmp_path / ".target.partial/model.safetensors").write_bytes(b"half")
    convert(CHECKPOINT, tmp_path / "target")
    assert files(tmp_path / "target") == files(converted)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(written: int, total: int) -> None:
        if written > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(CHECKPOINT, tmp_path / "target", on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_the_size_of_the_weights(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = convert(CHECKPOINT, tmp_path / "target", on_progress=lambda written, total: seen.append((written, total)))
    total = sum(report.dtypes.values())
    assert seen == sorted(seen)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)


def test_ids_on_which_model_and_tokenizer_disagree_are_an_error(source: Path, tmp_path: Path) -> None:
    edit_json(source / "config.json", lambda c: c["special_tokens2ids_dict"].update({"<s>": 7}))  # type: ignore[attr-defined]
    assert "<s> is 1 in the tokenizer and 7 in config.json" in refused(source, tmp_path / "target")


def test_ids_come_from_the_tokenizer_where_the_config_has_none(source: Path, converted: Path, tmp_path: Path) -> None:
    edit_json(source / "config.json", lambda config: config.pop("special_tokens2ids_dict"))
    convert(source, tmp_path / "target")
    assert files(tmp_path / "target") == files(converted)


def test_a_token_without_an_id_is_an_error(source: Path, tmp_path: Path) -> None:
    edit_json(source / "config.json", lambda config: config.pop("special_tokens2ids_dict"))
    edit_json(source / "added_tokens.json", lambda ids: ids.pop("<dream_start>"))
    edit_json(source / "tokenizer_config.json", lambda settings: settings.pop("added_tokens_decoder"))
    assert "<dream_start>" in refused(source, tmp_path / "target")


def test_a_tokenizer_that_is_not_in_legacy_mode_is_an_error(source: Path, tmp_path: Path) -> None:
    edit_json(source / "tokenizer_config.json", lambda settings: settings.update(legacy=False))
    assert "legacy" in refused(source, tmp_path / "target")


MEASURE = """
import resource, sys
from pathlib import Path
import torch
from models.dreamllm.conversion import convert
from tests.parity.converted import CHECKPOINT
convert(CHECKPOINT, Path(sys.argv[2]).with_name("warm"))  # imports and code are not what is measured
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(Path(sys.argv[1]), Path(sys.argv[2]), dtype=torch.bfloat16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_peak_memory_is_at_most_the_largest_shard(source: Path, tmp_path: Path) -> None:
    """Embeddings and head of 96 MB each, in files of their own."""
    rows = 375_000
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    parts = [{name: torch.zeros(rows, 64) for name in ("model.embed_tokens.weight",)}, {}, {}]
    parts[1]["lm_head.weight"] = torch.zeros(rows, 64)
    parts[2] = {name: tensor for name, tensor in tensors.items() if len(tensor) != 408}
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, source / name, metadata={"format": "pt"})
    weight_map = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    edit_json(source / "config.json", lambda config: config.update(vocab_size=rows))

    command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "target")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    largest_shard = max((source / name).stat().st_size for name in names)
    # The margin: one tensor cast to the output's dtype, half its size here.
    assert int(result.stdout) < 1.6 * largest_shard
    assert (tmp_path / "target/model.safetensors").stat().st_size > 96e6
