"""From what a caller wrote to what will be done: defaults filled in, limits checked, pictures decoded."""

from collections.abc import Sequence

from server.api.files import linked_image
from server.backend import Backend, DrawingDefaults
from server.guard.images import ImageInputError, ImageInputLimits, InputImage
from server.interleave.document import DocumentRequest, ImageParams
from server.llm.conversation import ImagePart, Message, TextPart
from server.schema.content import Content, ContentPart, ImageURLContent, TextContent
from server.schema.errors import APIError, invalid_value
from server.schema.interleaved import ImageOptions
from server.schema.sampling import SamplingOptions
from server.service import Service
from server.settings import LimitsSettings, Settings


def document_request(
    options: SamplingOptions,
    *,
    id: str,
    messages: tuple[Message, ...],
    max_tokens: int | None,
    images: ImageParams,
    backend: Backend,
    settings: Settings,
    logprobs: int | None = None,
    json_schema: str | None = None,
) -> DocumentRequest:
    """The request for a document, no default left to fill in. See :class:`DocumentRequest`.

    Args:
        options: how its text is sampled.
        id: of the document.
        messages: the conversation.
        max_tokens: None is the server's default.
        images: how its pictures are drawn.
        backend: knows the checkpoint's defaults.
        settings: of the server.
        logprobs: alternatives of each token that are told with their log probabilities; None tells nothing.
        json_schema: what the answer must be.

    Raises:
        APIError: fields contradict each other.
    """
    if options.ignore_eos and json_schema is not None:
        raise invalid_value("ignore_eos", "JSON ends where it is complete")
    text = backend.text
    return DocumentRequest(
        id=id,
        model=settings.model.name,
        messages=messages,
        max_tokens=max_tokens or settings.limits.default_max_tokens,
        temperature=text.temperature if options.temperature is None else options.temperature,
        top_p=text.top_p if options.top_p is None else options.top_p,
        top_k=text.top_k if options.top_k is None else max(options.top_k, 0),
        seed=options.seed,
        stop=options.stop_strings,
        images=images,
        min_p=text.min_p if options.min_p is None else options.min_p,
        repetition_penalty=(
            text.repetition_penalty if options.repetition_penalty is None else options.repetition_penalty
        ),
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        logit_bias={int(token_id): bias for token_id, bias in options.logit_bias.items()},
        logprobs=logprobs,
        json_schema=json_schema,
        ignore_eos=options.ignore_eos,
    )


def check_model(name: str | None, settings: Settings) -> None:
    """Refuse the name of a model that is not served.

    Raises:
        APIError: with status 404.
    """
    if name not in (None, settings.model.name):
        message = f"there is no model {name!r}; {settings.model.name!r} is served"
        raise APIError(404, message, param="model", code="model_not_found")


def image_params(
    options: ImageOptions, backend: Backend, limits: LimitsSettings, previews: int, prefix: str = "images."
) -> ImageParams:
    """How the pictures of a request are drawn.

    Args:
        options: what the request says.
        backend: draws them.
        limits: what a request may ask for.
        previews: of each picture that will be shown.
        prefix: what the names of the fields begin with for the caller.

    Raises:
        APIError: more is asked for than is allowed, or a size that the model cannot draw.
    """
    drawing = backend.drawing
    width, height = image_size(options.size, drawing, limits, f"{prefix}size")
    steps = drawing.steps if options.steps is None else options.steps
    if steps > limits.steps:
        raise invalid_value(f"{prefix}steps", f"at most {limits.steps}")
    if options.max is not None and options.max > limits.images:
        raise invalid_value(f"{prefix}max", f"at most {limits.images}")
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
        delivery=options.delivery,
        on_overload=options.on_overload,
    )


def image_size(size: str | None, drawing: DrawingDefaults, limits: LimitsSettings, param: str) -> tuple[int, int]:
    """Width and height of the pictures.

    Raises:
        APIError: the model cannot draw them so, or they are not allowed.
    """
    if size is None:
        return drawing.width, drawing.height
    width, height = map(int, size.split("x"))
    if limits.image_sizes is not None and size not in limits.image_sizes:
        raise invalid_value(param, f"must be one of {', '.join(limits.image_sizes)}")
    if width % drawing.size_multiple or height % drawing.size_multiple:
        raise invalid_value(param, f"both sides must be multiples of {drawing.size_multiple}")
    if width * height > limits.image_pixels:
        raise invalid_value(param, f"at most {limits.image_pixels} pixels")
    return width, height


class Conversation:
    """Reads the conversation of one request, counting its parts and pixels.

    Args:
        service: says what a request may hold, has the earlier pictures that it may refer to, and reads the others.
    """

    def __init__(self, service: Service) -> None:
        self._limits = limits = service.settings.limits
        self._files = service.files
        self._loader = service.image_loader
        self._image_limits = ImageInputLimits(limits.input_image_bytes, limits.input_image_pixels, limits.input_pixels)
        self._parts = self._images = self._pixels = 0

    async def read(self, content: Content, param: str) -> tuple[TextPart | ImagePart, ...]:
        """What one message says, its pictures decoded.

        Args:
            content: of the message.
            param: the field that it stands in.

        Raises:
            APIError: there are too many parts, or a picture cannot be read.
        """
        if isinstance(content, str):
            content = [TextContent(type="text", text=content)]
        return await self.read_parts([(part, field_of(part, f"{param}[{i}]")) for i, part in enumerate(content)], param)

    async def read_parts(
        self, parts: Sequence[tuple[ContentPart, str]], param: str
    ) -> tuple[TextPart | ImagePart, ...]:
        """The same for parts that stand in fields of their own: each with the name of what it is read from.

        Raises:
            APIError: see :meth:`read`.
        """
        self._parts += len(parts)
        if self._parts > self._limits.input_parts:
            raise invalid_value(param, f"a request has at most {self._limits.input_parts} parts", "too_many_parts")
        return tuple([await self._part(part, field) for part, field in parts])

    async def _part(self, part: ContentPart, param: str) -> TextPart | ImagePart:
        if isinstance(part, TextContent):
            return TextPart(part.text)
        self._images += 1
        if self._images > self._limits.input_images:
            raise invalid_value(param, f"a request has at most {self._limits.input_images} pictures", "too_many_images")
        url = part.image_url.url if isinstance(part, ImageURLContent) else part.image_url
        try:
            image = await self._load(url)
        except ImageInputError as error:
            raise invalid_value(param, str(error), error.code) from error
        self._pixels += image.pixels.width * image.pixels.height
        return ImagePart(image.pixels, image.digest)

    async def _load(self, url: str) -> InputImage:
        """A picture that this server drew earlier and still has, or that of another URL.

        Raises:
            ImageInputError: it cannot be read.
            DecodingBusyError: not now.
            StorageError: earlier pictures cannot be read now.
        """
        image_id = linked_image(url)
        if image_id is None:
            return await self._loader.load(url, self._image_limits, self._pixels)
        stored = await self._files.get(image_id)
        if stored is None:
            raise ImageInputError("image_not_found", f"there is no picture {image_id!r} here, or none any more")
        return await self._loader.decode(stored.data, self._image_limits, self._pixels)


def field_of(part: ContentPart, param: str) -> str:
    """What a part is read from.

    Args:
        part: of a message.
        param: the field that it stands in.
    """
    return f"{param}.text" if isinstance(part, TextContent) else f"{param}.image_url"
