"""Fields of OpenAI's requests that ask for what this model cannot do."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

WHY_UNSUPPORTED = {
    "annotations": "this model cites nothing",
    "audio": "this model neither hears nor speaks",
    "context_management": "conversations are not compacted here",
    "conversation": "conversations are not kept here: use previous_response_id",
    "file_id": "files cannot be uploaded here: send the picture itself",
    "function_call": "this model calls no functions",
    "functions": "this model calls no functions",
    "input_image_mask": "this model draws new pictures only",
    "moderation": "answers are not moderated here",
    "prediction": "answers are not predicted here",
    "prompt": "prompts are not kept here: send what it says",
    "reasoning": "this model does not reason apart from its answer",
    "reasoning_effort": "this model does not reason apart from its answer",
    "tool_calls": "this model calls no tools",
    "tools": "this model calls no tools",
    "verbosity": "this model cannot be told how much to say",
    "web_search_options": "this model does not search",
}


def refuse(value: Any, info: ValidationInfo) -> None:
    """Take an empty list for nothing, and refuse all else with the reason."""
    if value != []:
        raise PydanticCustomError("unsupported_parameter", "{why}", {"why": WHY_UNSUPPORTED[info.field_name or ""]})


Unsupported = Annotated[None, BeforeValidator(refuse), Field(description="Not supported: must be left out.")]
