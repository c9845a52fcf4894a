"""How pictures get to readers: in the answer, or as links to the store of pictures."""

from base64 import b64encode
from collections.abc import Callable

from server.interleave.events import Image

LinkTo = Callable[[Image], str]
"""Makes the URL of a picture in the store. Who serves it there, and under which address, no renderer knows."""


def base64_of(image: Image) -> str:
    """A picture in base64. Takes long for a large one: not for the event loop."""
    return b64encode(image.data).decode()


def data_url(image: Image) -> str:
    """A picture as a data URL. Takes long for a large one: not for the event loop."""
    return f"data:image/{image.format};base64,{base64_of(image)}"


def picture_url(image: Image, link_to: LinkTo) -> str:
    """Where a picture is: itself or a link, as it was asked for. Takes long for a large one: not for the event loop."""
    return link_to(image) if image.delivery == "url" else data_url(image)
