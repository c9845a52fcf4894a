"""The processor of DreamLLM: text with ``<image>`` and ``<dream>`` placeholders, and pictures, to model inputs."""

from typing import Any

from transformers import BatchFeature, ProcessorMixin

IMAGE_PLACEHOLDER = "<image>"
DREAM_PLACEHOLDER = "<dream>"


def dream_query_tokens(count: int) -> list[str]:
    """Names of the dream queries in the tokenizer."""
    return [f"<dream_query_{index}>" for index in range(count)]


class DreamLLMProcessor(ProcessorMixin):  # type: ignore[misc]
    """Turns text and pictures into ``input_ids``, ``attention_mask`` and ``pixel_values``.

    In the text, ``<image>`` stands for a picture and becomes ``<im_start> <im_patch>… <im_end>``; ``<dream>`` stands
    for a dream and becomes ``<dream_start> <dream_query_0>… <dream_end>``. A picture that the model drew is
    ``<dream><image>``.

    Args:
        image_processor: a CLIP image processor.
        tokenizer: a tokenizer whose vocabulary holds the tokens named above.
        num_image_tokens: patches of one picture.
        num_dream_queries: dream queries of the model.
        chat_template: Jinja template; by default the tokenizer's.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        num_image_tokens: int = 256,
        num_dream_queries: int = 64,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_image_tokens = num_image_tokens
        self.num_dream_queries = num_dream_queries
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def expand(self, text: str) -> str:
        """The text with each placeholder replaced by the tokens that it stands for."""
        image = "<im_start>" + "<im_patch>" * self.num_image_tokens + "<im_end>"
        queries = "".join(dream_query_tokens(self.num_dream_queries))
        dream = f"<dream_start>{queries}<dream_end>"
        return text.replace(DREAM_PLACEHOLDER, dream).replace(IMAGE_PLACEHOLDER, image)

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """Encode one text or a list of texts and their pictures, in order of appearance over the whole batch.

        Raises:
            ValueError: the pictures are not as many as the ``<image>`` placeholders.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        expected = sum(t.count(IMAGE_PLACEHOLDER) for t in texts)
        given = 0 if images is None else len(images) if isinstance(images, list | tuple) else 1
        if given != expected:
            raise ValueError(f"{expected} {IMAGE_PLACEHOLDER} placeholders in the text for {given} images")
        return_tensors = kwargs.pop("return_tensors", None)
        inputs = self.tokenizer([self.expand(t) for t in texts], **kwargs)
        if images is not None and given:
            inputs["pixel_values"] = self.image_processor(images, return_tensors=return_tensors)["pixel_values"]
        return BatchFeature(data=dict(inputs), tensor_type=return_tensors)
