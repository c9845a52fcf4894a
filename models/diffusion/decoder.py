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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel

from models.diffusion.condition_projector import ConditionProjector
from models.diffusion.conditioning import Conditioning
from models.diffusion.description import SAMPLING_DEFAULTS, SCHEDULER_CONFIG, DecoderDescription, SamplingDefaults
from models.diffusion.sdxl import added_conditions, pooled_dim

MODEL_INDEX = "model_index.json"


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

    Attributes:
        description: what it can draw.
    """

    def __init__(
        self,
        projector: ConditionProjector,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler_config: Mapping[str, Any],
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
        self.description = DecoderDescription.from_configs(
            projector.config, unet.config, vae.config, scheduler_config, sampling
        )

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
        description = DecoderDescription.from_pretrained(folder)

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
            scheduler_config=description.scheduler_config,
            sampling=description.sampling,
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
        return self._parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        return self._parameter.dtype

    @property
    def _parameter(self) -> torch.Tensor:
        """One for all of the UNet. diffusers looks through every module for an answer, and a step needs several."""
        parameter: torch.Tensor = next(self.unet.parameters())
        return parameter

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures that the UNet was trained on."""
        return self.description.image_size

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Of the noise that the UNet was trained with."""
        return self.description.scheduler_config

    @property
    def sampling(self) -> SamplingDefaults:
        """Defaults for requests."""
        return self.description.sampling

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """See :meth:`~models.diffusion.description.DecoderDescription.latent_shape`."""
        return self.description.latent_shape(width, height)

    def synchronize(self) -> None:
        """Block until the device has done what was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
