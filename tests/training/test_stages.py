"""What each stage trains, on the tiny model and on the layouts and at the size of the published one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPVisionConfig, LlamaConfig
from webdataset import TarWriter  # type: ignore[import-untyped]

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.decoder import DiffusionDecoder
from models.diffusion.description import SamplingDefaults
from models.dreamllm import DreamLLMConfig, DreamLLMForConditionalGeneration
from models.training.assembly import DreamLLM, assemble
from models.training.config import Parts, Stage, StageConfig, packaged_config
from models.training.curves import read_log
from models.training.denoising_loss import DenoisingLoss, DenoisingSettings
from models.training.joint_loss import JointLoss, LossWeights
from models.training.sources import Json, WebDataset, World
from models.training.stages import build_objective, choose_trained, load_start, run_stage
from tests.parity.published import CLIP_VISION, LLAMA, UNET, VAE
from tests.training.parts import write_tiny_parts, write_vicuna_like_parts
from tests.training.readers.examples import png, write_lines, write_pairs

PROJECTORS = {"model.model.multi_modal_projector", "denoising.projector"}
TABLE = "model.model.language_model.embed_tokens.weight"


def shortened(config: StageConfig, **changes: Any) -> StageConfig:
    """The configuration with two steps of two documents, prepared in this process."""
    few = {"steps": 2, "batch_size": 2, "warmup": 0, "log_every": 1, "save_every": 2, "mixed_precision": "no"}
    optimisation = config.optimisation.model_copy(update=few)
    data = config.data.model_copy(update={"workers": 0})
    return config.model_copy(update={"optimisation": optimisation, "data": data, **changes})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_parts(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vicuna_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts in the layouts of the published ones, with small shards in the place of the data sets."""
    work = write_vicuna_like_parts(tmp_path_factory.mktemp("7b"))
    data = work / "data"
    (data / "pictures").mkdir(parents=True)
    (data / "pictures" / "a.png").write_bytes(png(3))
    write_pairs(data / "pairs.tar", range(8))
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "It is gray."}]
    write_lines(data / "conversation.jsonl", [{"image": "a.png", "conversations": talk}] * 4)
    story = {"text_list": ["One.", "Two."], "image_info": [{"image_name": "a.png", "matched_text_index": 0}]}
    write_lines(data / "interleaved.jsonl", [story] * 4)
    with TarWriter(str(data / "interleaved.tar")) as shard:
        for key in "abcd":
            shard.write({"__key__": key, "json": story, "a.png": png(3)})
    return work


def on_small_data(config: StageConfig) -> StageConfig:
    """The configuration with those shards in the place of its data sets."""

    def small(source: World | WebDataset | Json) -> World | WebDataset | Json:
        match source:
            case WebDataset(layout="pair"):
                return source.model_copy(update={"pattern": "data/pairs.tar"})
            case WebDataset():
                return source.model_copy(update={"pattern": "data/interleaved.tar"})
            case Json(layout=layout):
                files = (Path(f"data/{layout}.jsonl"),)
                return source.model_copy(update={"files": files, "pictures": Path("data/pictures")})
        raise AssertionError(source)

    sources = tuple(small(source) for source in config.data.sources)
    return config.model_copy(update={"data": config.data.model_copy(update={"sources": sources})})


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_changes_what_it_trains_and_nothing_else(tiny: Path, stage: Stage) -> None:
    config = packaged_config("tiny", Stage.ALIGN)
    dream = load_start(config, tiny)
    joint = build_objective(config, dream)
    before = {name: parameter.detach().clone() for name, parameter in joint.named_parameters()}
    stage_config = shortened(config, stage=stage)
    choose_trained(joint, stage)
    trained = {name for name, parameter in joint.named_parameters() if parameter.requires_grad}
    language = {name for name in before if name.startswith(("model.model.language_model.", "model.lm_head."))}
    projectors = {name for name in before if name.startswith(tuple(PROJECTORS))}
    assert trained == projectors | ({TABLE} if stage == Stage.ALIGN else language)
    assert not any("vision_tower" in name or "unet" in name or "vae" in name for name in trained)

    trained_model = DreamLLM.from_pretrained(run_stage(stage_config, tiny))
    after = dict(build_objective(config, trained_model).named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == trained
    if stage == Stage.ALIGN:
        rows = (before[TABLE] != after[TABLE]).any(1).nonzero().flatten().tolist()
        assert rows == dream.model.config.dream_query_token_ids


def test_the_unet_is_trained_on_request() -> None:
    joint = published_size()
    choose_trained(joint, Stage.SFT, unet=True)
    assert all(parameter.requires_grad for parameter in joint.denoising.unet.parameters())


def test_the_stages_of_the_published_size_run_on_small_parts_in_the_same_layouts(vicuna_like: Path) -> None:
    for stage in Stage:
        config = shortened(on_small_data(packaged_config("7b", stage)))
        if isinstance(config.start, Parts):
            config = config.model_copy(update={"start": config.start.model_copy(update={"num_dream_queries": 8})})
        folder = run_stage(config, vicuna_like)
        assert [point["step"] for point in read_log(vicuna_like / stage)] == [1, 2]
    dream = DreamLLM.from_pretrained(folder)
    assert dream.model.config.num_dream_queries == 8


def test_control_tokens_and_queries_follow_the_vocabulary_of_vicuna_as_published(vicuna_like: Path) -> None:
    folders = (vicuna_like / name for name in ("vicuna-7b-v1.1", "clip-vit-large-patch14", "stable-diffusion-2-1-base"))
    dream = assemble(*folders, 8, SamplingDefaults())
    config = dream.model.config
    assert dream.processor.tokenizer.pad_token_id == config.pad_token_id == 400
    ids = (config.image_start_token_id, config.dream_end_token_id, config.dream_token_id, config.image_token_id)
    assert (*ids, config.image_end_token_id) == (401, 402, 403, 404, 405)
    assert config.dream_query_token_ids == list(range(408, 416))
    (row,) = dream.processor(text="<dream>", add_special_tokens=False)["input_ids"]
    assert row == config.dream_block
    assert (dream.model.lm_head.weight[:400] != 0).any()


def published_size() -> JointLoss:
    """All modules of the published model, on the meta device."""
    with torch.device("meta"):
        text = LlamaConfig(**{**LLAMA, "vocab_size": 32008 + 64})
        config = DreamLLMConfig(text_config=text, vision_config=CLIPVisionConfig(**CLIP_VISION))
        unet, vae = UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE)
        model = DreamLLMForConditionalGeneration(config)
        projector = ConditionProjector(4096, 1024)
    scheduler = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
    decoder = DiffusionDecoder(projector, unet, vae, scheduler, SamplingDefaults())
    denoising = DenoisingLoss(projector, unet, vae, decoder.scheduler_config, DenoisingSettings())
    return JointLoss(model, denoising, LossWeights())


def test_the_published_size_trains_as_many_parameters_as_the_paper_says_of_its_parts() -> None:
    joint = published_size()

    def trained(stage: Stage) -> int:
        choose_trained(joint, stage)
        return sum(p.numel() for p in joint.parameters() if p.requires_grad)

    table = (32008 + 64) * 4096
    projectors = (1024 * 4096 + 4096) + 4096 * 1024
    llama = 6_738_415_616 + 2 * (8 + 64) * 4096
    assert trained(Stage.ALIGN) == projectors + table  # of which only the 64 rows of the queries have a gradient
    assert trained(Stage.IGPT) == trained(Stage.SFT) == projectors + llama
