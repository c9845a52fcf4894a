"""Input items of a stored response, listed."""

from server.api.responses_input import ITEMS, text_part
from server.interleave.journal.base import StoredDocument
from server.interleave.renderers.responses import IMAGE_CALL_PREFIX, MESSAGE_PREFIX, RESPONSE_PREFIX
from server.schema.errors import invalid_value
from server.schema.responses_input import EarlierMessage, ImageCall, InputItem, InputMessage, ItemReference, OutputText
from server.schema.responses_object import InputItemList


def input_item_list(stored: StoredDocument, limit: int, newest_first: bool, after: str | None) -> InputItemList:
    """A page of the items. Takes long if there are pictures: not for the event loop.

    Args:
        stored: the response.
        limit: items at most.
        newest_first: whether the list begins with the last item.
        after: id of the item before the page; None begins at the first.

    Raises:
        APIError: there is no such item.
    """
    prefix = f"{stored.id.removeprefix(RESPONSE_PREFIX)}_input"
    asked = ITEMS.validate_python(stored.request["input"])
    items = [listed(item, f"{prefix}_{i}") for i, item in enumerate(asked)]
    if newest_first:
        items.reverse()
    ids = [item.id for item in items]
    if after is not None and after not in ids:
        raise invalid_value("after", f"there is no item {after!r}")
    begin = 0 if after is None else ids.index(after) + 1
    page = items[begin : begin + limit]
    return InputItemList(
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=begin + limit < len(items),
    )


def listed(item: InputItem, name: str) -> InputItem:
    """An item as OpenAI lists it: with an id and a status, and its text in parts."""
    found: dict[str, object]
    match item:
        case InputMessage(content=content):
            parts = [text_part(content)] if isinstance(content, str) else content
            found = {"id": item.id or f"{MESSAGE_PREFIX}{name}", "content": parts}
        case EarlierMessage(content=content):
            texts = [OutputText(type="output_text", text=content)] if isinstance(content, str) else content
            found = {"id": item.id or f"{MESSAGE_PREFIX}{name}", "content": texts}
        case ImageCall():
            found = {"id": item.id or f"{IMAGE_CALL_PREFIX}{name}"}
        case ItemReference():
            return item
    return item.model_copy(update=found | {"status": item.status or "completed"})
