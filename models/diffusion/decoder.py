"""The diffusion side of a checkpoint: condition projectors, UNet, VAE and scheduler configuration.

It is saved in diffusers' folder layout, beside the language model and independent of it::

    diffusion/
      model_index.json
      sampling_defaults.json
      condition_projector/  unet/  vae/      each config.json + diffusion_pytorch_model.safetensors
      pooled_projector/                      the same, of Stable Diffusion XL only
      scheduler/scheduler_config.json
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.conditioning import Conditioning
from models.diffusion.job import SchedulerName
from models.diffusion.schedulers import make_scheduler
from models.diffusion.sdxl import added_conditions, pooled_dim

MODEL_INDEX = "model_index.json"
SAMPLING_DEFAULTS = "sampling_defaults.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a checkpoint's pictures are drawn when a request does not say.

    Attributes:
        scheduler: the sampler.
        steps: denoising steps.
        guidance_scale: 1 or less draws without guidance.
    """

    scheduler: SchedulerName = "ddpm"
    steps: int = 50
    guidance_scale: float = 7.5


class DiffusionDecoder:
    """What turns dream states into pictures, given a sampler.

    Args:
        projector: dream states to UNet conditioning.
        unet: the denoiser.
        vae: between pixels and latents.
        scheduler_config: content of a diffusers ``scheduler_config.json``; the class that it names is not binding.
        sampling: defaults for requests.
        pooled_projector: dream states to the pooled vector that the UNet of Stable Diffusion XL reads.

    Raises:
        ValueError: the UNet reads conditions that the projectors do not give.
    """

    def __init__(
        self,
        projector: ConditionProjector,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler_config: dict[str, Any],
        sampling: SamplingDefaults,
        pooled_projector: ConditionProjector | None = None,
    ) -> None:
        given = None if pooled_projector is None else pooled_projector.config.cross_attention_dim
        if given != pooled_dim(unet):
            raise ValueError(
                f"the size of the pooled vector is {pooled_dim(unet)} to the UNet and {given} to its projector"
            )
        self.projector = projector
        self.pooled_projector = pooled_projector
        self.unet = unet
        self.vae = vae
        self.scheduler_config = scheduler_config
        self.sampling = sampling

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> Self:
        """Load from a ``diffusion`` folder, ready to draw.

        Args:
            folder: as written by :meth:`save_pretrained`; only safetensors are read.
            device: where the modules go.
            dtype: what they compute in. By default float32 on a CPU, which has no fast float16, and float16 elsewhere.

        Raises:
            OSError: a file is missing.
            ValueError: float16 is asked for on a CPU, the modules do not fit together, or the defaults cannot be drawn.
        """
        folder, device = Path(folder), torch.device(device)
        if dtype is None:
            dtype = torch.float32 if device.type == "cpu" else torch.float16
        if device.type == "cpu" and dtype == torch.float16:
            raise ValueError("float16 is not for CPUs: use float32 or bfloat16")
        scheduler_config = json.loads((folder / SCHEDULER_CONFIG).read_text())
        sampling = _read_sampling(folder / SAMPLING_DEFAULTS, scheduler_config)

        def load(model: Any, name: str, dtype: torch.dtype = dtype) -> Any:
            loaded = model.from_pretrained(
                folder / name, torch_dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
            return loaded.to(device).eval().requires_grad_(False)

        sdxl = (folder / "pooled_projector").is_dir()
        return cls(
            projector=load(ConditionProjector, "condition_projector"),
            unet=load(UNet2DConditionModel, "unet"),
            # That of Stable Diffusion XL overflows in float16, and the official code never computes in less with it.
            vae=load(AutoencoderKL, "vae", torch.float32 if sdxl else dtype),
            scheduler_config=scheduler_config,
            sampling=sampling,
            pooled_projector=load(ConditionProjector, "pooled_projector") if sdxl else None,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the ``diffusion`` folder, each module in the dtype that it has."""
        folder = Path(folder)
        for name, module in self.modules.items():
            module.save_pretrained(folder / name, safe_serialization=True)
        self.save_description(folder)

    def save_description(self, folder: Path) -> None:
        """Write what the ``diffusion`` folder holds beside its modules."""
        index: dict[str, Any] = {
            "_class_name": type(self).__name__,
            "_diffusers_version": diffusers.__version__,
            "scheduler": ["diffusers", self.scheduler_config.get("_class_name", "DDPMScheduler")],
        }
        for name, module in self.modules.items():
            library = type(module).__module__
            index[name] = ["diffusers" if library.startswith("diffusers.") else library, type(module).__name__]
        _write_json(folder / MODEL_INDEX, index)
        _write_json(folder / SAMPLING_DEFAULTS, asdict(self.sampling))
        _write_json(folder / SCHEDULER_CONFIG, self.scheduler_config)

    @property
    def modules(self) -> dict[str, ModelMixin]:
        """The modules that have weights, by the names of their folders."""
        modules = {"condition_projector": self.projector, "unet": self.unet, "vae": self.vae}
        if self.pooled_projector is not None:
            modules["pooled_projector"] = self.pooled_projector
        return modules

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along one side of a latent."""
        halvings: int = len(self.vae.config.block_out_channels) - 1
        return 1 << halvings

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures that the UNet was trained on."""
        return int(self.unet.config.sample_size) * self.pixels_per_latent

    @property
    def size_multiple(self) -> int:
        """What the sides of a picture must be a multiple of, in pixels, for the VAE and the UNet to halve them."""
        halvings: int = len(self.unet.config.block_out_channels) - 1
        return self.pixels_per_latent << halvings

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Shape ``(channels, height, width)`` of the latents of a picture.

        Raises:
            ValueError: a side is not a positive multiple of what the VAE and the UNet can halve.
        """
        multiple = self.size_multiple
        if min(width, height) <= 0 or width % multiple or height % multiple:
            raise ValueError(f"width and height must be positive multiples of {multiple}, not {width}x{height}")
        return self.unet.config.in_channels, height // self.pixels_per_latent, width // self.pixels_per_latent

    def condition(self, states: torch.Tensor) -> Conditioning:
        """Dream states ``[queries, hidden_size]`` to conditions of one row."""
        states = states.to(self.device, self.dtype).unsqueeze(0)
        added = (
            {} if self.pooled_projector is None else added_conditions(states, self.pooled_projector, self.image_size)
        )
        return Conditioning(self.projector(states), added)

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        """One UNet call.

        Args:
            latents: ``[rows, channels, h, w]``.
            timesteps: ``[rows]``.
            condition: of as many rows.

        Returns:
            The prediction, float32, shaped as ``latents``.
        """
        output: torch.Tensor = self.unet(
            latents.to(self.dtype),
            timesteps.to(self.device),
            encoder_hidden_states=condition.states,
            added_cond_kwargs=condition.added,
            return_dict=False,
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents ``[batch, channels, h, w]``, as the UNet sees them, to pixels uint8 ``[batch, height, width, 3]``."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        images = self.vae.decode(scaled, return_dict=False)[0].float()
        images = (images / 2 + 0.5).clamp(0, 1) * 255
        pixels: torch.Tensor = images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return pixels


def _read_sampling(path: Path, scheduler_config: dict[str, Any]) -> SamplingDefaults:
    try:
        sampling = SamplingDefaults(**json.loads(path.read_text()))
        make_scheduler(sampling.scheduler, scheduler_config, sampling.steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return sampling


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
