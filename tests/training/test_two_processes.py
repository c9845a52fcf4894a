"""A stage of the published size, on small parts, in two processes that accelerate starts: with copies of the weights
(DDP), and with shares of them (FSDP) as the configuration beside the stages says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.training.config import PACKAGED, Stage, StageConfig, load_config
from models.training.curves import read_log
from models.training.stages import MODEL, run_stage
from models.training.trainer import Trainer
from tests.training.parts import write_vicuna_like_parts
from tests.training.readers.examples import png, write_lines, write_pairs

LAUNCH = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2"]
PLAIN = ["--multi_gpu", "--num_machines", "1", "--dynamo_backend", "no", "--mixed_precision", "no"]
SHARDED = ["--config_file", str(PACKAGED / "7b" / "fsdp.yaml")]

# Conversations have no picture to denoise and pairs may have nothing to say: so the batches of two processes often use
# other parts of the model.
STAGE = """
stage = "sft"

[start]
language = "{work}/vicuna-7b-v1.1"
vision = "{work}/clip-vit-large-patch14"
diffusion = "{work}/stable-diffusion-2-1-base"
num_dream_queries = 8

[data]
sources = [
    {{ reader = "json", files = ["{work}/talks.json"], pictures = "{work}", layout = "conversation", share = 5 }},
    {{ reader = "webdataset", pattern = "{work}/pairs.tar", layout = "pair", share = 3 }},
    {{ reader = "json", files = ["{work}/stories.jsonl"], pictures = "{work}", layout = "interleaved", share = 2 }},
]
workers = 0

[optimisation]
steps = 4
batch_size = 2
accumulation = {accumulation}
learning_rate = 1e-2
weight_decay = 0.01
gradient_checkpointing = true
log_every = 1
save_every = 2
"""


class KilledError(Exception):
    """Stands for the end of the processes."""


def write_config(work: Path, accumulation: int) -> StageConfig:
    path = work / f"sft-{accumulation}.toml"
    path.write_text(STAGE.format(work=work, accumulation=accumulation))
    return load_config(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts and data."""
    work = write_vicuna_like_parts(tmp_path_factory.mktemp("work"))
    for number in range(8):
        (work / f"{number}.png").write_bytes(png(30 * number))
    write_pairs(work / "pairs.tar", range(40))
    talks = [
        {
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "It is gray. " * (number + 1)},
            ],
        }
        for number in range(8)
    ]
    (work / "talks.json").write_text(json.dumps(talks))
    stories = [
        {"text_list": ["One. " * (n + 1), "Two."], "image_info": [{"image_name": f"{n}.png", "matched_text_index": 0}]}
        for n in range(8)
    ]
    write_lines(work / "stories.jsonl", stories)
    return work


@pytest.fixture(scope="module")
def alone(work: Path) -> list[dict[str, Any]]:
    """The curves of one process that accumulates twice as much."""
    run_stage(write_config(work, 4), work / "alone")
    return read_log(work / "alone" / Stage.SFT)


@pytest.mark.parametrize(("name", "arguments"), [("plain", PLAIN), ("sharded", SHARDED)])
def test_two_processes_learn_what_one_does_and_go_on_exactly_after_a_kill(
    work: Path, alone: list[dict[str, Any]], name: str, arguments: list[str]
) -> None:
    write_config(work, 2)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [*LAUNCH, *arguments, "--main_process_port", "0", __file__, str(work), name]
    subprocess.run(command, check=True, env=environment, timeout=280)
    quiet, killed = (read_log(work / name / run / Stage.SFT) for run in ("quiet", "killed"))
    assert killed == quiet
    assert [set(point) for point in quiet] == [set(point) for point in alone]
    for point, expected in zip(quiet, alone, strict=True):
        assert point == pytest.approx(expected, rel=1e-4)
    written = [(work / name / run / Stage.SFT / MODEL / "model.safetensors") for run in ("quiet", "killed")]
    assert written[0].read_bytes() == written[1].read_bytes()


def shard_on_cpus() -> None:
    """Let accelerate shard where there is no accelerator. torch does (gloo), accelerate asks for a GPU or the like
    before it looks at its own configuration (``AcceleratorState.__init__``, 1.15)."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    begin = AcceleratorState.__init__

    def begin_sharded(
        self: Any, *arguments: Any, fsdp_plugin: FullyShardedDataParallelPlugin | None = None, **settings: Any
    ) -> None:
        begin(self, *arguments, fsdp_plugin=fsdp_plugin, **settings)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = begin_sharded


def run_twice(work: Path, name: str) -> None:
    """What each process does: the stage in one go, and the stage with a kill behind its checkpoint."""
    config = load_config(work / "sft-2.toml")
    run_stage(config, work / name / "quiet")
    advance = Trainer.advance

    def advance_or_die(trainer: Trainer, *arguments: Any) -> Any:
        if trainer.step == 3:
            raise KilledError
        return advance(trainer, *arguments)

    with pytest.MonkeyPatch.context() as killing:
        killing.setattr(Trainer, "advance", advance_or_die)
        with pytest.raises(KilledError):
            run_stage(config, work / name / "killed")
    run_stage(config, work / name / "killed")


if __name__ == "__main__":
    shard_on_cpus()
    run_twice(Path(sys.argv[1]), sys.argv[2])
