"""How a request says that its text is sampled: the same on every surface."""

from typing import Annotated

from pydantic import Field, Tag

from server.schema.content import TEXT_OR_LIST, RequestModel

MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1  # the most that a 32-bit integer of a kernel holds
MAX_BIASES = 1024

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("text")] | Annotated[list[StopString], Field(max_length=16), Tag("list")], TEXT_OR_LIST
]


class SamplingOptions(RequestModel):
    """Base of the requests that have text sampled."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, allow_inf_nan=False, description="0 is greedy. By default the checkpoint's, else 1."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="Nucleus mass. By default the checkpoint's, else 1."
    )
    top_k: int | None = Field(
        default=None,
        ge=-1,
        le=MAX_COUNT,
        description="Keep the k likeliest tokens; 0 keeps all, and so does -1, which vLLM's clients know. "
        "By default the checkpoint's, else 0.",
    )
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Drop tokens that are less likely than this share of the likeliest one. "
        "By default the checkpoint's, else 0.",
    )
    repetition_penalty: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="Over 1 makes the tokens of prompt and answer less likely, under 1 more. "
        "By default the checkpoint's, else 1.",
    )
    presence_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off the logits of tokens that the answer has.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        allow_inf_nan=False,
        description="Taken off the logits of tokens for each time that the answer has them.",
    )
    logit_bias: dict[TokenId, Bias] = Field(
        default={}, max_length=MAX_BIASES, description="Added to the logits of tokens, which are named by their ids."
    )
    seed: Seed | None = Field(default=None, description="The same request with the same seed gives the same document.")
    stop: Stop | None = Field(default=None, description="Text that ends the document; it is not part of it.")
    ignore_eos: bool = Field(default=False, description="Go on until a limit is reached, for benchmarks; vLLM's.")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """What ``stop`` says, one or several."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
