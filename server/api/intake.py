"""From what a caller wrote to what will be done: defaults filled in, limits checked, pictures decoded."""

import uuid

from server.backend import Backend, DrawingDefaults
from server.guard.images import ImageInputError, ImageInputLimits, load_image_url
from server.interleave.document import DocumentRequest, ImageParams
from server.llm.conversation import ImagePart, Message, TextPart
from server.schema.content import ContentPart, ImageURLContent, TextContent
from server.schema.errors import APIError, invalid_value
from server.schema.interleaved import ImageOptions, InterleavedRequest
from server.settings import LimitsSettings, Settings


async def document_request(body: InterleavedRequest, backend: Backend, settings: Settings) -> DocumentRequest:
    """The request for a document that a body stands for.

    Raises:
        APIError: it asks for what there is not, or for more than is allowed. Names the field.
    """
    limits = settings.limits
    check_model(body.model, settings)
    images = image_params(body.images, backend, limits, previews=body.images.previews if body.stream else 0)
    messages = await Conversation(limits).read(body)
    text = backend.text
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return DocumentRequest(
        id=f"doc_{uuid.uuid4().hex}",
        model=settings.model.name,
        messages=messages,
        max_tokens=body.max_tokens or limits.default_max_tokens,
        temperature=text.temperature if body.temperature is None else body.temperature,
        top_p=text.top_p if body.top_p is None else body.top_p,
        top_k=text.top_k if body.top_k is None else body.top_k,
        seed=body.seed,
        stop=stop,
        images=images,
    )


def check_model(name: str | None, settings: Settings) -> None:
    """Refuse the name of a model that is not served.

    Raises:
        APIError: with status 404.
    """
    if name not in (None, settings.model.name):
        message = f"there is no model {name!r}; {settings.model.name!r} is served"
        raise APIError(404, message, param="model", code="model_not_found")


def image_params(options: ImageOptions, backend: Backend, limits: LimitsSettings, previews: int) -> ImageParams:
    """How the pictures of a request are drawn.

    Args:
        options: what the request says.
        backend: draws them.
        limits: what a request may ask for.
        previews: of each picture that will be shown.

    Raises:
        APIError: more is asked for than is allowed, or a size that the model cannot draw.
    """
    drawing = backend.drawing
    width, height = image_size(options.size, drawing, limits)
    steps = drawing.steps if options.steps is None else options.steps
    if steps > limits.steps:
        raise invalid_value("images.steps", f"at most {limits.steps}")
    if options.max is not None and options.max > limits.images:
        raise invalid_value("images.max", f"at most {limits.images}")
    guidance_scale = drawing.guidance_scale if options.guidance_scale is None else options.guidance_scale
    return ImageParams(
        max=limits.images if options.max is None else options.max,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=guidance_scale,
        negative_prompt=options.negative_prompt,
        scheduler=options.scheduler or drawing.scheduler,
        seed=options.seed,
        format=options.format,
        previews=previews,
        feedback=options.feedback or ("none" if backend.engine.config.feedback == "none" else "image"),
    )


def image_size(size: str | None, drawing: DrawingDefaults, limits: LimitsSettings) -> tuple[int, int]:
    """Width and height of the pictures.

    Raises:
        APIError: the model cannot draw them so, or they are not allowed.
    """
    if size is None:
        return drawing.width, drawing.height
    width, height = map(int, size.split("x"))
    if limits.image_sizes is not None and size not in limits.image_sizes:
        raise invalid_value("images.size", f"must be one of {', '.join(limits.image_sizes)}")
    if width % drawing.size_multiple or height % drawing.size_multiple:
        raise invalid_value("images.size", f"both sides must be multiples of {drawing.size_multiple}")
    if width * height > limits.image_pixels:
        raise invalid_value("images.size", f"at most {limits.image_pixels} pixels")
    return width, height


class Conversation:
    """Reads the conversation of one request, counting its parts and pixels."""

    def __init__(self, limits: LimitsSettings) -> None:
        self._limits = limits
        self._image_limits = ImageInputLimits(limits.input_image_bytes, limits.input_image_pixels, limits.input_pixels)
        self._parts = self._images = self._pixels = 0

    async def read(self, body: InterleavedRequest) -> tuple[Message, ...]:
        """The messages, their pictures decoded.

        Raises:
            APIError: there are too many parts, or a picture cannot be read.
        """
        if body.input is not None:
            return (Message("user", await self._content(body.input, "input")),)
        return tuple(
            [
                Message(message.role, await self._content(message.content, f"messages[{i}].content"))
                for i, message in enumerate(body.messages or ())
            ]
        )

    async def _content(self, content: str | list[ContentPart], param: str) -> tuple[TextPart | ImagePart, ...]:
        if isinstance(content, str):
            content = [TextContent(type="text", text=content)]
        self._parts += len(content)
        if self._parts > self._limits.input_parts:
            raise invalid_value(param, f"a request has at most {self._limits.input_parts} parts", "too_many_parts")
        return tuple([await self._part(part, f"{param}[{i}]") for i, part in enumerate(content)])

    async def _part(self, part: ContentPart, param: str) -> TextPart | ImagePart:
        if isinstance(part, TextContent):
            return TextPart(part.text)
        param = f"{param}.image_url"
        self._images += 1
        if self._images > self._limits.input_images:
            raise invalid_value(param, f"a request has at most {self._limits.input_images} pictures", "too_many_images")
        url = part.image_url.url if isinstance(part, ImageURLContent) else part.image_url
        try:
            image = await load_image_url(url, self._image_limits, self._pixels)
        except ImageInputError as error:
            raise invalid_value(param, str(error), error.code) from error
        self._pixels += image.pixels.width * image.pixels.height
        return ImagePart(image.pixels, image.digest)
