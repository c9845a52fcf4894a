"""Stop strings over the whole text of an answer."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the first stop string, and holds back what may be the beginning of one.

    The first stop string to be complete ends the text; of those complete at the same character, the longest. So the
    result does not depend on how the text is cut into pieces.

    Args:
        strings: none of them empty.

    Attributes:
        matched: whether a stop string was found.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise ValueError("a stop string is empty")
        self._strings = tuple(strings)
        self._longest = max(map(len, strings), default=0)
        self._held = ""
        self.matched = False

    @property
    def held(self) -> int:
        """Characters held back now."""
        return len(self._held)

    def feed(self, text: str) -> str:
        """The text that is certain to stand before any stop string. Nothing comes after a match."""
        if self.matched:
            return ""
        if not self._strings:
            return text
        seen = self._held + text
        found = [(start + len(s), start) for s in self._strings if (start := seen.find(s)) >= 0]
        if found:
            self.matched = True
            self._held = ""
            return seen[: min(found)[1]]
        certain = len(seen) - self._longest_beginning(seen)
        self._held = seen[certain:]
        return seen[:certain]

    def finish(self) -> str:
        """What was held back: no text follows that could complete a stop string."""
        rest, self._held = self._held, ""
        return rest

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(s.startswith(text[-length:]) for s in self._strings):
                return length
        return 0
