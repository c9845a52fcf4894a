"""An example of a check: refuses pictures that are all of one colour.

It judges no content. What it catches is what a broken decoder draws (an overflow in float16 comes out black), and what
a filter before it has painted over.
"""

import numpy as np

from server.guard.checks import CheckedImage


class FlatPictures:
    """An :class:`~server.guard.checks.ImageCheck`: ``checks.image = "server.guard.flat_pictures:FlatPictures"``.

    Args:
        tolerance: by which the values of a channel may differ in a picture of one colour, of 255.
    """

    def __init__(self, tolerance: int = 3) -> None:
        self._tolerance = tolerance

    def __call__(self, image: CheckedImage) -> str | None:
        spread = int(np.ptp(image.pixels, axis=(0, 1)).max())
        return "all of one colour" if spread <= self._tolerance else None
