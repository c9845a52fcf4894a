"""The configuration of a stage: a TOML file, checked before anything is loaded.

Paths in it are relative to the folder of the run.
"""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.diffusion.description import SamplingDefaults
from models.training.batches import DenoisedShare
from models.training.denoising_loss import DenoisingSettings
from models.training.joint_loss import LossWeights
from models.training.optimisation import Optimisation
from models.training.sources import Source

PACKAGED = Path(__file__).with_name("configs")


class Stage(StrEnum):
    """DreamLLM's stages, in their order."""

    ALIGN = "align"
    IGPT = "igpt"
    SFT = "sft"


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file and the fields."""


class Section(BaseModel):
    """Part of a configuration: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parts(Section):
    """Three pre-trained models to begin with; see :func:`models.training.assembly.assemble`."""

    language: Path
    vision: Path
    diffusion: Path
    num_dream_queries: int = Field(64, gt=0)
    sampling: SamplingDefaults = SamplingDefaults()


class Data(Section):
    """What is learned from.

    Attributes:
        sources: readers and their shares.
        max_length: tokens of a document; longer ones are left out.
        workers: processes that prepare micro-batches.
    """

    sources: tuple[Source, ...] = Field(min_length=1)
    max_length: int = Field(2048, gt=0)
    workers: int = Field(1, ge=0)


class StageConfig(Section):
    """All that a stage needs to know.

    Attributes:
        stage: which stage.
        seed: decides everything random.
        start: checkpoint to begin with, or the parts of one.
        train_unet: whether to train the UNet too, which no published stage does.
        data: what is learned from.
        loss: what each part of the loss counts.
        denoising: variants of the loss on pictures.
        denoised: which pictures it is computed on.
        optimisation: how it is minimised.
        dtype: of the weights of the checkpoint that the stage writes.
    """

    stage: Stage
    seed: int = 0
    start: Path | Parts
    train_unet: bool = False
    data: Data
    loss: LossWeights = LossWeights()
    denoising: DenoisingSettings = DenoisingSettings()
    denoised: DenoisedShare = DenoisedShare()
    optimisation: Optimisation
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @model_validator(mode="after")
    def _only_rows_of_a_table_learn(self) -> Self:
        if self.stage == Stage.ALIGN and self.optimisation.weight_decay:
            raise ValueError("optimisation.weight_decay must be 0 in align, which trains rows of a table")
        return self


def load_config(path: Path) -> StageConfig:
    """Read a configuration.

    Raises:
        ConfigError: there is no such file, it is not TOML, or a field is wrong.
    """
    try:
        return StageConfig.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join([f"{path}:", *problems])) from error


def packaged_config(name: str, stage: Stage) -> StageConfig:
    """A configuration that comes with DreamServe: ``tiny`` or ``7b``.

    Raises:
        ConfigError: there is none of that name.
    """
    if not (PACKAGED / name).is_dir():
        known = ", ".join(sorted(folder.name for folder in PACKAGED.iterdir() if folder.is_dir()))
        raise ConfigError(f"no configuration {name!r}: give a file, or one of {known}")
    return load_config(PACKAGED / name / f"{stage}.toml")
