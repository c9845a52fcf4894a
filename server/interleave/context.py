"""The context of an answer: what the model reads, growing from one engine request to the next."""

from collections.abc import Sequence

from models.dreamllm.configuration import DreamLLMConfig
from server.llm.engine import Prompt, PromptImage
from server.llm.prompt import expanded_length


class Context:
    """Token ids and pictures in the layout of the official training code:

    ``… text <dream_start> q0…qN-1 <dream_end> <im_start> <im_patch> <im_end> text …``

    Args:
        config: the model's control tokens.

    Attributes:
        length: in tokens, pictures expanded.
    """

    def __init__(self, config: DreamLLMConfig) -> None:
        self.length = 0
        self._config = config
        self._token_ids: list[int] = []
        self._images: list[PromptImage] = []

    @property
    def prompt(self) -> Prompt:
        """The context as the engine takes it."""
        return Prompt(tuple(self._token_ids), tuple(self._images))

    @property
    def dream_length(self) -> int:
        """Tokens that :meth:`add_dream` adds."""
        return len(self._config.dream_block)

    @property
    def image_length(self) -> int:
        """Tokens that :meth:`add_image` adds, patches expanded."""
        return len(self._config.image_block) - 1 + self._config.num_image_tokens

    def begin(self, prompt: Prompt) -> None:
        """Put the request's prompt at the front."""
        self._token_ids = list(prompt.token_ids)
        self._images = list(prompt.images)
        self.length = expanded_length(prompt, self._config)

    def add_text(self, token_id: int) -> None:
        """Add a sampled token of text."""
        self._add([token_id])

    def add_dream(self) -> None:
        """Add the dream token that was sampled, and the queries. Alone, it stands for a picture that is not shown."""
        self._add(self._config.dream_block)

    def add_image(self, image: PromptImage) -> None:
        """Add the picture that was dreamt, to be read by the model."""
        self._add(self._config.image_block)
        self._images.append(image)
        self.length += self._config.num_image_tokens - 1

    def _add(self, token_ids: Sequence[int]) -> None:
        self._token_ids += token_ids
        self.length += len(token_ids)
