"""What may make the same UNet faster: each a decoder that draws the same pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from load_tests.gpu.model import Spec, random_decoder
from models.diffusion.conditioning import Conditioning
from models.diffusion.decoder import DiffusionDecoder

WARM_UP_CALLS = 3
"""Before a capture: libraries choose their kernels and allocate their workspaces, neither of which can be captured."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A UNet call as a CUDA graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    latents: torch.Tensor
    timesteps: torch.Tensor
    states: torch.Tensor
    output: torch.Tensor


class GraphedDecoder(DiffusionDecoder):
    """Replays its UNet as a CUDA graph, one for each shape of a batch, captured when that comes first.

    Only for UNets that read nothing but latents, timesteps and states, as Stable Diffusion's.
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__(*modules)
        self._graphs: dict[torch.Size, Captured] = {}

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        if latents.shape not in self._graphs:
            self._graphs[latents.shape] = self._capture(latents, timesteps, condition)
        captured = self._graphs[latents.shape]
        captured.latents.copy_(latents)
        captured.timesteps.copy_(timesteps)
        captured.states.copy_(condition.states)
        captured.graph.replay()
        return captured.output.clone()

    def _capture(self, latents: torch.Tensor, timesteps: torch.Tensor, condition: Conditioning) -> Captured:
        inputs = latents.to(self.dtype), timesteps.to(self.device), condition.states.clone()
        beside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP_CALLS):
                super().predict(inputs[0], inputs[1], Conditioning(inputs[2], {}))
        torch.cuda.current_stream(self.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # The thread that decodes may use the device meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = super().predict(inputs[0], inputs[1], Conditioning(inputs[2], {}))
        return Captured(graph, *inputs, output)


@dataclass(frozen=True, slots=True)
class Option:
    """A way to run the UNet.

    Attributes:
        name: of it.
        make: a decoder of a size on a device.
        needs_cuda: whether there is nothing of the kind on a CPU.
    """

    name: str
    make: Callable[[Spec, torch.device], DiffusionDecoder]
    needs_cuda: bool = True


def eager(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """As the server draws."""
    return random_decoder(spec, device)


def channels_last(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """Convolutions read memory in the order in which tensor cores want it."""
    decoder = random_decoder(spec, device)
    decoder.unet.to(memory_format=torch.channels_last)
    decoder.vae.to(memory_format=torch.channels_last)
    return decoder


def fused_projections(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """Query, key and value of an attention layer by one matrix."""
    decoder = random_decoder(spec, device)
    decoder.unet.fuse_qkv_projections()
    return decoder


def graphed(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """The kernels of eager mode, launched by one call."""
    return random_decoder(spec, device, GraphedDecoder)


def compiled(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """Kernels by torch.compile, launched one by one."""
    decoder = random_decoder(spec, device)
    decoder.unet.compile(dynamic=False)
    return decoder


def compiled_channels_last(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """The same on convolutions that read channels last."""
    decoder = channels_last(spec, device)
    decoder.unet.compile(dynamic=False)
    return decoder


def all_together(spec: Spec, device: torch.device) -> DiffusionDecoder:
    """torch.compile with its own CUDA graphs and the best kernels that it finds, over all of the above."""
    decoder = channels_last(spec, device)
    decoder.unet.fuse_qkv_projections()
    decoder.unet.compile(dynamic=False, mode="max-autotune")
    return decoder


OPTIONS = (
    Option("eager", eager, needs_cuda=False),
    Option("channels last", channels_last, needs_cuda=False),
    Option("fused projections", fused_projections, needs_cuda=False),
    Option("CUDA graphs", graphed),
    Option("compiled", compiled),
    Option("compiled, channels last", compiled_channels_last),
    Option("compiled with CUDA graphs and autotuning, channels last, fused projections", all_together),
)
"""The first is what the others are held against."""
