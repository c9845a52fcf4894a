"""How long the parts of an answer take on one kind of machine: what the simulation is fed with."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from models.diffusion.step_times import StepTimes


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """One replica of the language model, batched at every step as vLLM does it.

    A step takes ``step_s + token_s * tokens + context_s * context``: reading the weights, computing on each token that
    is prefilled or decoded, reading the keys and values of each decoding sequence.

    Attributes:
        step_s: seconds of a step that has nothing to do.
        token_s: seconds more for each token computed.
        context_s: seconds more for each token in the caches of the sequences that decode.
        max_seqs: sequences of one step.
        max_tokens: tokens of one step; longer prefills are cut into chunks.
        request_s: seconds from a request's arrival to the engine's queue, and back out: outside the steps.
    """

    step_s: float
    token_s: float
    context_s: float
    max_seqs: int
    max_tokens: int
    request_s: float


@dataclass(frozen=True, slots=True)
class Painter:
    """One diffusion worker, batched at every denoising step.

    Attributes:
        step_times: seconds of a step by the number of its jobs.
        steps: denoising steps of a picture.
        max_batch: jobs of one step.
        hand_off_s: seconds from dream states to a worker that has room.
        decode_s: seconds that decoding and encoding a picture keep the worker from its next step.
        finish_s: seconds more from there to the picture at the server.
    """

    step_times: StepTimes
    steps: int
    max_batch: int
    hand_off_s: float
    decode_s: float
    finish_s: float

    @property
    def pictures_per_s(self) -> float:
        """Of one worker that is never idle."""
        return 1 / (self.steps / self.step_times.job_steps_per_s(self.max_batch) + self.decode_s)


@dataclass(frozen=True, slots=True)
class Profile:
    """Times of one kind of machine.

    Attributes:
        name: of the machine and the models.
        source: where the times come from: measured there, or how they were estimated.
        language_model: on one server GPU.
        painter: on one worker GPU.
        query_tokens: computed for the dream states of a picture.
        image_tokens: computed when a picture is fed back.
    """

    name: str
    source: str
    language_model: LanguageModel
    painter: Painter
    query_tokens: int
    image_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Of JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """From what :meth:`to_json` made.

        Raises:
            TypeError, KeyError, ValueError: it is no profile.
        """
        painter = dict(fields["painter"])
        measured = tuple((int(batch), float(seconds)) for batch, seconds in painter.pop("step_times")["measured"])
        return cls(
            fields["name"],
            fields["source"],
            LanguageModel(**fields["language_model"]),
            Painter(step_times=StepTimes(measured), **painter),
            fields["query_tokens"],
            fields["image_tokens"],
        )


def h100_estimate() -> Profile:
    """A 7B language model and Stable Diffusion 2.1 at 512x512, on an H100 SXM each, in 16 bits: estimated.

    From NVIDIA's data sheet: 3.35 TB/s of memory, 989 dense TFLOP/s. Language model: 13.5 GB of weights are read in a
    step at 75 % of the bandwidth; a token takes 2 x 6.7e9 FLOP at half of the peak; a token of context has 0.52 MB of
    keys and values (32 layers x 2 x 4096 x 2 bytes). Pictures: 50 steps with guidance take 0.57 s at batch 1, which is
    this project's goal; a step of b jobs takes 2 b x 0.804 TFLOP (the UNet of 866 M parameters on 64x64 latents, as
    torch's FlopCounterMode counts), at 30 % of the peak from b = 8 on, and is linear between. Decoding is 2.5 TFLOP at
    the same 30 %, which the steps lack although it has a stream of its own.
    """
    language_model = LanguageModel(
        step_s=13.5e9 / (0.75 * 3.35e12),
        token_s=2 * 6.7e9 / (0.5 * 989e12),
        context_s=0.52e6 / (0.75 * 3.35e12),
        max_seqs=256,
        max_tokens=8192,
        request_s=0.010,
    )
    at_8 = 8 * 2 * 0.804e12 / (0.3 * 989e12)
    painter = Painter(
        StepTimes(((1, 0.0114), (8, at_8), (16, 2 * at_8))), 50, 8, 0.005, decode_s=0.0085, finish_s=0.0365
    )
    return Profile(
        "7B + SD 2.1 at 512x512, H100",
        "estimated from NVIDIA's data sheet, see load_tests/capacity/profile.py; nothing of it was measured",
        language_model,
        painter,
        query_tokens=66,
        image_tokens=258,
    )
