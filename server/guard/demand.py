"""What a document may take, and what documents have turned out to take."""

from dataclasses import dataclass

from models.dreamllm.configuration import DreamLLMConfig
from server.backend import Backend
from server.interleave.document import DocumentRequest
from server.interleave.text_to_image import TextToImageRequest

NEWEST = 0.05
"""Weight of the latest document in a running mean: about the last forty count."""
FIRST_TOKENS = 256.0
FIRST_IMAGES = 1.0
FIRST_SECONDS = 5.0
"""What is expected of the first document, before there is anything to learn from."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one document asks for, known before it begins.

    Attributes:
        prompt_tokens: pictures expanded.
        max_tokens: that may be added to its context.
        max_images: that may be drawn.
        image_steps: denoising steps of one picture, in steps of a picture of the checkpoint's own size.
        certain: whether all of it will be taken, and not only what the model chooses.
    """

    prompt_tokens: int
    max_tokens: int
    max_images: int
    image_steps: float
    certain: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What one document is expected to take, or has taken.

    Attributes:
        tokens: of its context.
        image_steps: see :class:`Demand`; of all of its pictures.
    """

    tokens: float
    image_steps: float


def demand_of(request: DocumentRequest | TextToImageRequest, prompt_tokens: int, backend: Backend) -> Demand:
    """What a request asks for.

    Args:
        request: for a document.
        prompt_tokens: of it, pictures expanded.
        backend: will serve it.
    """
    images, drawing, engine = request.images, backend.drawing, backend.engine
    image_steps = images.steps * (images.width * images.height) / (drawing.width * drawing.height)
    if isinstance(request, TextToImageRequest):
        return Demand(prompt_tokens, len(engine.config.dream_block), images.max, image_steps, certain=True)
    max_tokens = max(0, engine.max_model_len - prompt_tokens)
    if request.max_tokens is not None:
        max_tokens = min(max_tokens, request.max_tokens + images.max * picture_tokens(engine.config))
    certain = request.ignore_eos and images.max == 0
    return Demand(prompt_tokens, max_tokens, images.max, image_steps, certain)


def picture_tokens(config: DreamLLMConfig) -> int:
    """What a picture adds to the context: its queries, and its patches for the model to see."""
    return len(config.dream_block) + len(config.image_block) - 1 + config.num_image_tokens


class RunningMean:
    """An exponentially weighted mean.

    Attributes:
        value: the mean; at first what it was made with.
    """

    def __init__(self, first: float) -> None:
        self.value = first

    def add(self, sample: float) -> None:
        """Count the latest sample."""
        self.value += NEWEST * (sample - self.value)


class Expectations:
    """What a document will take, judged by those before it.

    Args:
        images: pictures of a document that may have some; None learns it.
    """

    def __init__(self, images: float | None) -> None:
        self._document_s = RunningMean(FIRST_SECONDS)
        self._tokens = RunningMean(FIRST_TOKENS)
        self._images = RunningMean(FIRST_IMAGES)
        self._fixed_images = images

    @property
    def document_s(self) -> float:
        """Seconds from a document's admission to its end."""
        return self._document_s.value

    def of(self, demand: Demand) -> Share:
        """What a document that asks for so much should take."""
        tokens, images = float(demand.max_tokens), float(demand.max_images)
        if not demand.certain:
            expected = self._images.value if self._fixed_images is None else self._fixed_images
            tokens, images = min(tokens, self._tokens.value), min(images, expected)
        return Share(demand.prompt_tokens + tokens, images * demand.image_steps)

    def learn(self, demand: Demand, tokens: int, images: int, seconds: float) -> None:
        """Count a document that ended well.

        Args:
            demand: what it asked for.
            tokens: that were added to its context.
            images: that it had drawn.
            seconds: from its admission to its end.
        """
        self._document_s.add(seconds)
        if not demand.certain:
            self._tokens.add(tokens)
            if demand.max_images:
                self._images.add(images)
