"""The joint loss of DreamLLM: predict the text, and denoise the pictures that the text asks for.

Dong et al. 2024, section 3; weights and layout are those of the official code.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from models.dreamllm import DreamLLMForConditionalGeneration
from models.training.denoising_loss import DenoisingLoss
from models.training.pretrain.wish_encoder import WishEncoder
from models.training.sequence import IGNORED, Batch
from models.training.world import Wish


class LossWeights(BaseModel):
    """What each part of the loss counts.

    Attributes:
        lm: cross-entropy of the learned tokens, the mean over all of a batch.
        vm: denoising error of the pictures, the mean over all of a batch.
        wish: squared distance of the conditions from the tokens that the tiny UNet was pre-trained on, those of a wish
            and those of none; GILL (Koh et al. 2023) learns so from Stable Diffusion's text encoder. The published
            DreamLLM has no such loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lm: float = Field(1.0, ge=0)
    vm: float = Field(10.0, ge=0)
    wish: float = Field(0.0, ge=0)


class JointLoss(nn.Module):
    """A DreamLLM and its diffusion side, as they are trained together.

    Args:
        model: the language side.
        denoising: the diffusion side.
        weights: of the parts.
        alike: whether every batch uses all parameters, and each equally often, as it must where processes share their
            weights (FSDP): each waits for all at every layer.
    """

    def __init__(
        self,
        model: DreamLLMForConditionalGeneration,
        denoising: DenoisingLoss,
        weights: LossWeights,
        *,
        alike: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.denoising = denoising
        self.weights = weights
        self.alike = alike
        self.wish_encoder = WishEncoder() if weights.wish else None

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of a batch by name, those that it has something for; ``loss`` is their weighted sum."""
        hidden = self.model.model(input_ids=batch.input_ids, pixel_values=batch.pixel_values).last_hidden_state
        losses = self.language_loss(hidden, batch.labels)
        denoises = batch.pictures is not None and self.weights.vm > 0
        unconditional = self.unconditional_states() if denoises or self.alike else None
        if len(batch.wishes):
            losses |= self.picture_losses(batch, hidden, unconditional if denoises else None)
        # The zero makes a batch without any loss one that can be differentiated.
        weights = {**self.weights.model_dump(), "no_wish": self.weights.wish}
        total = sum((weights[name] * loss for name, loss in losses.items()), start=0 * hidden.sum())
        if self.alike and unconditional is not None:
            total = total + 0 * (unconditional.sum() + self.sum_of_seldom_used())
        return {"loss": total, **losses}

    def sum_of_seldom_used(self) -> torch.Tensor:
        """Sum over the parameters that are trained and that not every batch uses."""
        modules = (self.model.model.multi_modal_projector, self.model.lm_head, self.denoising)
        return sum(
            (p.sum() for module in modules for p in module.parameters() if p.requires_grad), start=torch.zeros(())
        )

    def language_loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of the labels ``[batch, length]`` after the states ``[batch, length, hidden]``."""
        learned = labels[:, 1:] != IGNORED
        if not self.weights.lm or not learned.any():
            return {}
        logits = self.model.logits(hidden[:, :-1][learned])
        return {"lm": F.cross_entropy(logits.float(), labels[:, 1:][learned])}

    def picture_losses(
        self, batch: Batch, hidden: torch.Tensor, unconditional: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Losses of the pictures that a batch asks for; without ``unconditional`` states none is denoised."""
        states = batch.dream_states(hidden, self.model.config.num_dream_queries)
        losses = self.wish_loss(batch.wishes, states)
        if batch.pictures is None or unconditional is None:
            return losses
        losses["vm"] = self.denoising(batch.pictures, states[: len(batch.pictures)], unconditional)
        if self.wish_encoder is not None:
            losses["no_wish"] = self.distance(unconditional, self.wish_encoder.unconditional())
        return losses

    def wish_loss(self, wishes: Sequence[Wish | None], states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Distance of the conditions to the tokens of their wishes, where these are known."""
        known = [index for index, wish in enumerate(wishes) if wish is not None]
        if self.wish_encoder is None or not known:
            return {}
        tokens = self.wish_encoder([wish for wish in wishes if wish is not None])
        return {"wish": self.distance(states[known], tokens)}

    def distance(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of projected states to what the UNet was pre-trained on."""
        return F.mse_loss(self.denoising.projector(states).float(), tokens.float())

    def unconditional_states(self) -> torch.Tensor:
        """Dream states of the empty prompt, BOS alone, ``[queries, hidden]``: what the service guides pictures by.

        The official code trains others here, those of ``<im_patch>`` embeddings in the place of the queries, and
        guides by these.
        """
        config = self.model.config
        ids = torch.tensor([[config.bos_token_id, *config.dream_block]], device=self.model.device)
        states: torch.Tensor = self.model.model(input_ids=ids).last_hidden_state[0, 2:-1]
        return states
