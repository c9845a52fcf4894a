"""From a request for a response to the document that it asks for, and what is kept of it."""

import json
import uuid

from server.api.chat_request import ANY_OBJECT
from server.api.intake import Conversation, check_model, document_request, image_params, image_size
from server.api.responses_input import ITEMS, SURFACE, ResponseTurns, Turn, read_turns, text_part
from server.backend import Backend
from server.guard.caller import Caller
from server.interleave.document import DocumentRequest
from server.interleave.journal.base import StoredDocument, StoreRequest
from server.interleave.renderers.delivery import LinkTo
from server.interleave.renderers.responses import RESPONSE_PREFIX, ResponseView
from server.schema.chat import JSONObjectFormat
from server.schema.errors import invalid_value
from server.schema.interleaved import ImageOptions
from server.schema.responses import LOGPROBS, ImageGenerationTool, JSONSchemaTextFormat, ResponseRequest
from server.schema.responses_input import InputItem, InputMessage
from server.schema.responses_object import ResponseSettings
from server.service import Service
from server.settings import Settings

SAME_OPTIONS = {"size": "size", "output_format": "format", "partial_images": "previews"}
"""Fields of the tool, by the names that they have in ``images``."""


async def response_request(body: ResponseRequest, service: Service, caller: Caller) -> DocumentRequest:
    """The request for a document that a body stands for.

    Raises:
        APIError: it asks for what there is not, or for more than is allowed. Names the field.
    """
    backend, settings = service.backend, service.settings
    check_model(body.model, settings)
    schema = json_schema(body)
    check_fields(body, is_json=schema is not None)
    for i, tool in enumerate(body.tools):
        check_tool(tool, f"tools[{i}]", backend, settings)
    options = image_options(body, settings, is_json=schema is not None)
    previews = options.previews if body.stream or body.background else 0
    images = image_params(options, backend, settings.limits, previews=previews)
    return document_request(
        body,
        id=f"{RESPONSE_PREFIX}{uuid.uuid4().hex}",
        messages=await read_turns(await turns_of(body, service, caller), Conversation(service)),
        max_tokens=body.max_output_tokens,
        images=images,
        backend=backend,
        settings=settings,
        logprobs=body.top_logprobs if LOGPROBS in body.include else None,
        json_schema=schema,
    )


def check_fields(body: ResponseRequest, *, is_json: bool) -> None:
    """Refuse fields that contradict each other.

    Raises:
        APIError: names one of them.
    """
    if body.stream_options is not None and not body.stream:
        raise invalid_value("stream_options", "only with stream")
    if body.background and not body.store:
        raise invalid_value("background", "only with store")
    if body.top_logprobs and LOGPROBS not in body.include:
        raise invalid_value("top_logprobs", f"only with {LOGPROBS!r} in include")
    if body.tools and is_json:
        raise invalid_value("text.format", "JSON is for answers of text alone: leave out the image_generation tool")


def check_tool(tool: ImageGenerationTool, param: str, backend: Backend, settings: Settings) -> None:
    """Refuse a tool that asks for other pictures than are drawn here.

    Raises:
        APIError: names the field.
    """
    if tool.model not in (None, settings.model.name):
        raise invalid_value(f"{param}.model", f"pictures are drawn by {settings.model.name!r} itself")
    if tool.size != "auto":
        image_size(tool.size, backend.drawing, settings.limits, f"{param}.size")


async def turns_of(body: ResponseRequest, service: Service, caller: Caller) -> list[Turn]:
    """The conversation: instructions, what came before, and what is said now.

    Raises:
        APIError: it refers to what is not there.
    """
    reader = ResponseTurns(service, caller)
    instructions = []
    if body.instructions is not None:
        instructions = [Turn("system", ((text_part(body.instructions), "instructions"),), "instructions")]
    before = await reader.before(body.previous_response_id)
    if isinstance(body.input, str):
        return [*instructions, *before, Turn("user", ((text_part(body.input), "input"),), "input")]
    return [*instructions, *before, *await reader.of_items(body.input, "input")]


def image_options(body: ResponseRequest, settings: Settings, *, is_json: bool) -> ImageOptions:
    """How the pictures are drawn, as ``images`` and the tool say: not at all where the answer is text alone.

    Raises:
        APIError: the two contradict each other, or pictures are both asked for and barred.
    """
    options = body.images
    for i, tool in enumerate(body.tools):
        options = with_tool(options, tool, f"tools[{i}]")
    is_text = is_json or body.tool_choice == "none"
    most = 0 if is_text else body.max_tool_calls
    if most is None:
        return options
    if options.max is not None and options.max > most:
        why = "the answer is text alone" if is_text else "max_tool_calls means the same"
        raise invalid_value("images.max", f"must be {most} or less, or left out: {why}")
    return options.model_copy(update={"max": min(most, settings.limits.images) if options.max is None else options.max})


def with_tool(options: ImageOptions, tool: ImageGenerationTool, param: str) -> ImageOptions:
    """Picture parameters with what the tool says of them.

    Raises:
        APIError: the two contradict each other.
    """
    said = tool.model_dump(include=tool.model_fields_set & SAME_OPTIONS.keys())
    if said.get("size") == "auto":
        del said["size"]
    for field, value in said.items():
        option = SAME_OPTIONS[field]
        if option in options.model_fields_set and getattr(options, option) != value:
            raise invalid_value(f"{param}.{field}", f"differs from images.{option}, which means the same")
    return options.model_copy(update={SAME_OPTIONS[field]: value for field, value in said.items()})


def json_schema(body: ResponseRequest) -> str | None:
    """The schema, itself in JSON, of which the answer must be; None for any text."""
    match body.text.format:
        case JSONSchemaTextFormat(definition=schema):
            return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        case JSONObjectFormat():
            return ANY_OBJECT
        case _:
            return None


def response_view(body: ResponseRequest, wanted: DocumentRequest, link_to: LinkTo) -> ResponseView:
    """What the caller wants to see of the document."""
    repeated = body.model_dump(include=set(ResponseSettings.model_fields) - {"text", "tools"})
    settings = ResponseSettings(
        **repeated | {"text": body.text, "tools": body.tools, "temperature": wanted.temperature, "top_p": wanted.top_p}
    )
    return ResponseView(link_to, settings, stop_strings=bool(wanted.stop), logprobs=wanted.logprobs is not None)


def store_request(body: ResponseRequest, view: ResponseView) -> StoreRequest:
    """What is kept of the request with its answer: what is shown of it, and what was said."""
    kept = {
        "settings": view.settings.model_dump(mode="json", by_alias=True),
        "stop_strings": view.stop_strings,
        "logprobs": view.logprobs,
        "input": ITEMS.dump_python(input_items(body), mode="json", by_alias=True, exclude_unset=True),
    }
    return StoreRequest(SURFACE, kept, body.background)


def stored_view(stored: StoredDocument, link_to: LinkTo) -> ResponseView:
    """The view that was kept with a response."""
    settings = ResponseSettings.model_validate(stored.request["settings"])
    return ResponseView(link_to, settings, stored.request["stop_strings"], stored.request["logprobs"])


def input_items(body: ResponseRequest) -> list[InputItem]:
    """What is said, as items."""
    if isinstance(body.input, str):
        return [InputMessage(type="message", role="user", content=[text_part(body.input)])]
    return body.input
