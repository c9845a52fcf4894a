"""DreamLLM's three stages: what each of them trains, and how it is run.

Dong et al. 2024, section 3.3, and the official configurations (``projects/dreamllm/configs`` of RunpeiDong/DreamLLM):
alignment trains the two projectors and the dream queries; interleaved generative pre-training (I-GPT) and supervised
fine-tuning train the language model too. Vision tower, UNet and autoencoder stay as they are.
"""

from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
from accelerate.utils import DistributedType
from torch import nn

from models.training.assembly import DreamLLM, assemble
from models.training.batches import DocumentBatches
from models.training.config import Stage, StageConfig
from models.training.denoising_loss import DenoisingLoss
from models.training.joint_loss import JointLoss
from models.training.sequence import Encoder
from models.training.sources import mixed
from models.training.trainer import Trainer, make_accelerator

MODEL = "model"


def run_stage(config: StageConfig, work: Path) -> Path:
    """Run a stage from where it stands to its end.

    Args:
        config: of the stage.
        work: folder of the run. The stage keeps its state in a folder of its name there, and ends with a checkpoint in
            ``model`` in that.

    Returns:
        The folder of that checkpoint.

    Raises:
        OSError: a part to begin with is missing.
        ValueError: the configuration does not fit the devices, or the data the model.
        OtherRunError: the state in the folder is of another run.
    """
    folder = work / config.stage
    torch.manual_seed(config.seed)
    accelerator = make_accelerator(config.optimisation)
    dream = load_start(config, work)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    joint = build_objective(config, dream, alike=sharded)
    choose_trained(joint, config.stage, unet=config.train_unet)
    if config.stage == Stage.ALIGN and sharded:
        raise ValueError("align trains rows of a table, which FSDP would shard: launch it without FSDP")
    batches = build_batches(config, dream, work)
    identity = config.model_dump(mode="json", exclude={"optimisation": True, "dtype": True, "data": {"workers"}})
    trainer = Trainer(config.stage, joint, batches, config.optimisation, folder, config.seed, identity, accelerator)
    trainer.run()
    weights = accelerator.get_state_dict(trainer.objective) if sharded else None
    if accelerator.is_main_process:
        if weights is not None:  # brought back together; the sharded modules could take only their own shares of them
            dream = load_start(config, work)
            build_objective(config, dream).load_state_dict(weights, assign=True)
        dream.save_pretrained(folder / MODEL, getattr(torch, config.dtype))
    accelerator.wait_for_everyone()
    return folder / MODEL


def load_start(config: StageConfig, work: Path) -> DreamLLM:
    """The model that a stage begins with.

    Raises:
        FileNotFoundError: there is none.
    """
    parts = config.start
    if isinstance(parts, Path):
        return DreamLLM.from_pretrained(present(work / parts))
    language, vision, diffusion = (present(work / part) for part in (parts.language, parts.vision, parts.diffusion))
    return assemble(language, vision, diffusion, parts.num_dream_queries, parts.sampling)


@torch.no_grad()
def unseen_losses(config: StageConfig, work: Path, batches: int) -> tuple[float, float]:
    """Mean loss of the model that a finished stage began with, and of the one it ended with, on documents it never saw.

    The loss is the weighted sum of all but denoising: a few steps change that less than its noise does. The documents
    are those that would have come next, had one process gone on.

    Args:
        config: of the stage, with the seed that it was trained by.
        work: folder of the run.
        batches: how many micro-batches.

    Raises:
        FileNotFoundError: the stage has not been trained there.
    """
    quiet = config.model_copy(
        update={
            "loss": config.loss.model_copy(update={"vm": 0.0}),
            "data": config.data.model_copy(update={"workers": 0}),
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # as run_stage does: the first stage begins with random projectors
        start = load_start(quiet, work)
    end = DreamLLM.from_pretrained(present(work / config.stage / MODEL))
    trained = config.optimisation.steps * config.optimisation.accumulation
    chosen = list(islice(build_batches(quiet, start, work)(trained, 1), batches))
    before, after = (
        fmean(objective(batch)["loss"].item() for batch in chosen)
        for objective in (build_objective(quiet, dream).eval() for dream in (start, end))
    )
    return before, after


def present(folder: Path) -> Path:
    """The folder, if it is there: transformers would look for any other in the Hugging Face Hub."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} to begin with")
    return folder


def build_objective(config: StageConfig, dream: DreamLLM, *, alike: bool = False) -> JointLoss:
    """The joint loss of a model; ``alike`` where processes share its weights, see :class:`JointLoss`."""
    decoder = dream.decoder
    denoising = DenoisingLoss(decoder.projector, decoder.unet, decoder.vae, decoder.scheduler_config, config.denoising)
    if config.optimisation.gradient_checkpointing:
        # The other way of doing it needs inputs with a gradient, which alignment has none of.
        dream.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return JointLoss(dream.model, denoising, config.loss, alike=alike)


def build_batches(config: StageConfig, dream: DreamLLM, work: Path) -> DocumentBatches:
    """The micro-batches of a stage."""
    return DocumentBatches(
        mixed(config.data.sources, config.seed, work),
        Encoder(dream.model.config, dream.processor),
        batch_size=config.optimisation.batch_size,
        seed=config.seed,
        denoised=config.denoised,
        side=dream.decoder.image_size,
        max_length=config.data.max_length,
        workers=config.data.workers,
    )


def choose_trained(joint: JointLoss, stage: Stage, *, unet: bool = False) -> None:
    """Let a stage train its parameters and freeze all others.

    Args:
        joint: model and diffusion side.
        stage: which stage.
        unet: whether to train the UNet too, which no published stage does.
    """
    joint.requires_grad_(False)
    joint.denoising.projector.requires_grad_(True)
    joint.denoising.unet.requires_grad_(unet)
    core = joint.model.model
    core.multi_modal_projector.requires_grad_(True)
    if stage == Stage.ALIGN:
        start, count = joint.model.config.dream_query_token_id, joint.model.config.num_dream_queries
        train_rows(core.language_model.embed_tokens.weight, start, start + count)
    else:
        core.language_model.requires_grad_(True)
        joint.model.lm_head.requires_grad_(True)


def train_rows(table: nn.Parameter, start: int, end: int) -> None:
    """Let only some rows of a table have a gradient. The optimiser must not decay it, which would move the others."""

    def keep(gradient: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(gradient)
        kept[start:end] = gradient[start:end]
        return kept

    table.requires_grad_(True)
    table.register_hook(keep)  # type: ignore[no-untyped-call]
