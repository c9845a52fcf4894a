"""Input items read: a conversation of turns, with what was answered in stored responses."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from server.api.intake import Conversation, field_of
from server.guard.caller import Caller
from server.interleave.document import AnswerPart, AnswerText, Document
from server.interleave.journal.base import DocumentNotFoundError, JournalTruncatedError, StoredDocument
from server.interleave.renderers.delivery import data_url
from server.interleave.renderers.responses import response_and_index
from server.llm.conversation import Message, Role
from server.schema.content import ContentPart, InputImageContent
from server.schema.errors import invalid_value
from server.schema.responses_input import (
    EarlierMessage,
    ImageCall,
    InputItem,
    InputMessage,
    InputText,
    ItemReference,
    OutputRefusal,
    OutputText,
)
from server.service import Service
from server.stored_documents import find_document

SURFACE = "responses"
PREVIOUS = "previous_response_id"
ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(list[InputItem])


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says, in parts that each have the name of the field that they are read from.

    Attributes:
        role: who says it.
        parts: what is said.
        param: the field that all of it stands in.
    """

    role: Role
    parts: tuple[tuple[ContentPart, str], ...]
    param: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A stored response that has ended well.

    Attributes:
        request: what is kept of its request.
        parts: of its answer.
    """

    request: Mapping[str, Any]
    parts: tuple[AnswerPart, ...]


class ResponseTurns:
    """Reads the turns of one request, and of the stored responses that it goes on from.

    Args:
        service: has these.
        caller: whose they must be.
    """

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service = service
        self._caller = caller
        self._answered: dict[str, Answered] = {}

    async def before(self, previous_response_id: str | None) -> list[Turn]:
        """The turns up to the end of a stored response, and of those that it went on from itself.

        Raises:
            APIError: one of them is not there, or has not ended well. Names ``previous_response_id``.
        """
        limit = self._service.settings.limits.input_parts
        newest_first: list[list[Turn]] = []
        while previous_response_id is not None:
            if sum(max(1, len(turn.parts)) for turns in newest_first for turn in turns) > limit:
                raise invalid_value(PREVIOUS, f"a request has at most {limit} parts", "too_many_parts")
            answered = await self._answer(previous_response_id, PREVIOUS)
            items = await asyncio.to_thread(ITEMS.validate_python, answered.request["input"])
            turns = [named(PREVIOUS, turn) for turn in await self.of_items(items, PREVIOUS)]
            newest_first.append([*turns, await answer_turn(answered.parts, PREVIOUS)])
            previous_response_id = answered.request["settings"][PREVIOUS]
        return [turn for turns in reversed(newest_first) for turn in turns]

    async def of_items(self, items: Sequence[InputItem], param: str) -> list[Turn]:
        """One turn for each item.

        Raises:
            APIError: an item refers to what is not there. Names it.
        """
        return [await self._of_item(item, f"{param}[{i}]") for i, item in enumerate(items)]

    async def _of_item(self, item: InputItem, param: str) -> Turn:
        match item:
            case InputMessage(role=role, content=content):
                said = [text_part(content)] if isinstance(content, str) else content
                placed = [(part, field_of(part, f"{param}.content[{i}]")) for i, part in enumerate(said)]
                return Turn("system" if role == "developer" else role, tuple(placed), f"{param}.content")
            case EarlierMessage(content=content):
                texts = [content] if isinstance(content, str) else [text_of(part) for part in content]
                return Turn("assistant", tuple((text_part(text), f"{param}.content") for text in texts), param)
            case ImageCall():
                return await self._of_image_call(item, param)
            case ItemReference(id=id):
                return await self._of_stored_item(id, param)

    async def _of_image_call(self, call: ImageCall, param: str) -> Turn:
        if call.result is not None:
            url = f"data:image/{call.output_format};base64,{call.result}"
            return Turn("assistant", ((image_part(url), f"{param}.result"),), param)
        if call.url is not None:
            return Turn("assistant", ((image_part(call.url), f"{param}.url"),), param)
        if call.status == "failed":
            return Turn("assistant", (), param)
        if call.id is None:
            raise invalid_value(f"{param}.result", "there is no picture", "missing_required_parameter")
        return await self._of_stored_item(call.id, param)

    async def _of_stored_item(self, id: str, param: str) -> Turn:
        place = response_and_index(id)
        parts = (await self._answer(place[0], f"{param}.id")).parts if place else ()
        if place is None or place[1] >= len(parts):
            raise invalid_value(f"{param}.id", f"there is no stored item {id!r}", "item_not_found")
        return await answer_turn(parts[place[1] : place[1] + 1], param)

    async def _answer(self, response_id: str, param: str) -> Answered:
        """A stored response.

        Raises:
            APIError: it is not there, or has not ended well.
            JournalError: that cannot be known now.
        """
        if response_id not in self._answered:
            try:
                stored = await find_document(self._service.journal, response_id, self._caller, SURFACE)
                require_ended_well(stored, param)
                parts = Document.of(await self._service.journal.events_so_far(response_id)).parts
            except DocumentNotFoundError as error:
                message = f"there is no stored response {response_id!r}, or none any more"
                raise invalid_value(param, message, "previous_response_not_found") from error
            except JournalTruncatedError as error:
                raise invalid_value(param, str(error), "journal_truncated") from error
            self._answered[response_id] = Answered(stored.request, parts)
        return self._answered[response_id]


def require_ended_well(stored: StoredDocument, param: str) -> None:
    """Return if a conversation can go on from a response.

    Raises:
        APIError: it has not ended, or not well.
    """
    if stored.status == "in_progress":
        raise invalid_value(param, f"response {stored.id!r} is still being made", "response_in_progress")
    if stored.status != "completed":
        raise invalid_value(param, f"response {stored.id!r} was not finished: {stored.status}", "response_unfinished")


async def answer_turn(parts: Sequence[AnswerPart], param: str) -> Turn:
    """What was answered, with the pictures that did not fail."""
    answered: list[tuple[ContentPart, str]] = []
    for part in parts:
        if isinstance(part, AnswerText):
            answered.append((text_part(part.text), param))
        elif part.image is not None:
            answered.append((image_part(await asyncio.to_thread(data_url, part.image)), param))
    return Turn("assistant", tuple(answered), param)


def named(param: str, turn: Turn) -> Turn:
    """A turn that is all read from one field."""
    return Turn(turn.role, tuple((part, param) for part, _ in turn.parts), param)


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """The turns, with what the model answered in adjacent ones as one: an answer has several items."""
    whole: list[Turn] = []
    for turn in turns:
        if whole and whole[-1].role == turn.role == "assistant":
            whole[-1] = Turn("assistant", whole[-1].parts + turn.parts, turn.param)
        else:
            whole.append(turn)
    return whole


async def read_turns(turns: Iterable[Turn], conversation: Conversation) -> tuple[Message, ...]:
    """The conversation, its pictures decoded.

    Raises:
        APIError: there are too many parts, or a picture cannot be read.
    """
    return tuple([Message(turn.role, await conversation.read_parts(turn.parts, turn.param)) for turn in joined(turns)])


def text_of(part: OutputText | OutputRefusal) -> str:
    """What a part of an earlier answer says."""
    return part.text if isinstance(part, OutputText) else part.refusal


def text_part(text: str) -> InputText:
    """A text."""
    return InputText(type="input_text", text=text)


def image_part(url: str) -> InputImageContent:
    """A picture."""
    return InputImageContent(type="input_image", image_url=url)
