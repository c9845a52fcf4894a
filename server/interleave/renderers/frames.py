"""The lines of server-sent events."""


def event_frame(data: str, event: str | None = None, id: int | None = None) -> bytes:
    """A server-sent event.

    Args:
        data: JSON as pydantic writes it, or another text without line breaks: it is one line.
        event: its name; without one browsers call it a message.
        id: what a reader who comes again says he has seen.
    """
    name = "" if event is None else f"event: {event}\n"
    number = "" if id is None else f"id: {id}\n"
    return f"{number}{name}data: {data}\n\n".encode()
