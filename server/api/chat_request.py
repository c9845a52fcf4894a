"""From a chat completion request to the document that it asks for."""

import json
import uuid

from server.api.chat_messages import read_messages
from server.api.intake import Conversation, check_model, document_request, image_params
from server.interleave.document import DocumentRequest
from server.schema.chat import ChatCompletionRequest, JSONObjectFormat, JSONSchemaFormat
from server.schema.errors import invalid_value
from server.schema.interleaved import ImageOptions
from server.service import Service

ANY_OBJECT = '{"type":"object"}'


async def chat_request(body: ChatCompletionRequest, service: Service) -> DocumentRequest:
    """The request for a document that a body stands for.

    Raises:
        APIError: it asks for what there is not, or for more than is allowed. Names the field.
    """
    backend, settings = service.backend, service.settings
    check_model(body.model, settings)
    check_fields(body)
    shows_previews = body.stream_options is not None and body.stream_options.include_image_events
    previews = body.images.previews if shows_previews else 0
    schema = json_schema(body)
    options = image_options(body, is_json=schema is not None)
    images = image_params(options, backend, settings.limits, previews=previews)
    conversation = Conversation(service)
    return document_request(
        body,
        id=f"chatcmpl-{uuid.uuid4().hex}",
        messages=await read_messages(body.messages, conversation, markdown=body.image_output == "markdown"),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        images=images,
        backend=backend,
        settings=settings,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        json_schema=schema,
    )


def check_fields(body: ChatCompletionRequest) -> None:
    """Refuse fields that contradict each other.

    Raises:
        APIError: names one of them.
    """
    if body.stream_options is not None and not body.stream:
        raise invalid_value("stream_options", "only with stream")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid_value("top_logprobs", "only with logprobs")
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise invalid_value("max_tokens", "differs from max_completion_tokens, which means the same")


def image_options(body: ChatCompletionRequest, *, is_json: bool) -> ImageOptions:
    """How the pictures are drawn: not at all where the answer is text alone.

    Raises:
        APIError: pictures are both asked for and barred.
    """
    if is_json and body.modalities is not None and "image" in body.modalities:
        raise invalid_value("response_format", 'JSON is for answers of text alone: modalities must be ["text"]')
    if not is_json and (body.modalities is None or "image" in body.modalities):
        return body.images
    if body.images.max:
        raise invalid_value("images.max", "must be 0 or left out: the answer is text alone")
    return body.images.model_copy(update={"max": 0})


def json_schema(body: ChatCompletionRequest) -> str | None:
    """The schema, itself in JSON, of which the answer must be; None for any text."""
    match body.response_format:
        case JSONSchemaFormat(json_schema=schema):
            return json.dumps(schema.definition, ensure_ascii=False, separators=(",", ":"))
        case JSONObjectFormat():
            return ANY_OBJECT
        case _:
            return None
