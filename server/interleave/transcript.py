"""What was said, for the log of an operator who has asked for it by ``log.contents``. Pictures appear by their size."""

import logging
from collections import defaultdict
from collections.abc import Iterable

from server.interleave.document import DocumentRequest
from server.interleave.events import DocumentEvent, ImageCompleted, ImageFailed, TextDelta, is_last
from server.interleave.text_to_image import TextToImageRequest
from server.llm.conversation import ImagePart, Message, TextPart

logger = logging.getLogger(__name__)


class Transcript:
    """Logs what one document was asked when it is made, and what it answers when that has ended."""

    def __init__(self, request: DocumentRequest | TextToImageRequest) -> None:
        self._id = request.id
        self._parts: dict[int, str] = defaultdict(str)
        logger.info("document %s was asked: %s", self._id, asked(request))

    def observe(self, event: DocumentEvent) -> None:
        """Take one event."""
        match event:
            case TextDelta(part=part, text=text):
                self._parts[part] += text
            case ImageCompleted(part=part, image=image):
                self._parts[part] = f"[picture {image.width}x{image.height}]"
            case ImageFailed(part=part, code=code):
                self._parts[part] = f"[no picture: {code}]"
        if is_last(event):
            answer = "".join(text for _, text in sorted(self._parts.items()))
            logger.info("document %s answered: %s", self._id, answer)


def asked(request: DocumentRequest | TextToImageRequest) -> str:
    """A request as one text."""
    match request:
        case DocumentRequest(messages=messages):
            said = "\n".join(f"{message.role}: {''.join(texts(message))}" for message in messages)
        case TextToImageRequest(description=description):
            said = description
    negative = request.images.negative_prompt
    return said if negative is None else f"{said}\nnot drawn: {negative}"


def texts(message: Message) -> Iterable[str]:
    """The parts of a message."""
    for part in message.parts:
        match part:
            case TextPart(text=text):
                yield text
            case ImagePart(pixels=pixels):
                yield f"[picture {pixels.width}x{pixels.height}]"
