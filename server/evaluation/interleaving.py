"""Interleaving: are there as many pictures as there should be, each in its place and as the text before it says?"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from models.training.documents.requests import Request, ask_for_several, ask_for_steps, ask_for_story
from models.training.documents.wording import read
from models.training.world import BACKGROUNDS, Wish
from server.evaluation.agreement import wording
from server.evaluation.judging import seen
from server.evaluation.scores import Tally
from server.evaluation.trial import Answer, ModelInput, Outcome

KINDS: dict[str, Callable[[random.Random], Request]] = {
    "several": ask_for_several,
    "story": ask_for_story,
    "steps": ask_for_steps,
}
ADDED = re.compile(r"\bstep \d+: add (.*)")
NEW_BACKGROUND = re.compile(rf"\bstep \d+: make the background ({'|'.join(BACKGROUNDS)})\b")


@dataclass(frozen=True, slots=True)
class InterleavingTrial:
    """A request for a document of several pictures."""

    kind: str
    request: Request
    seed: int
    section: ClassVar[str] = "interleaving"

    @property
    def input(self) -> ModelInput:
        return ModelInput((self.request.text,), self.seed, max_pictures=len(self.request.wishes) + 1)

    def assess(self, answer: Answer) -> Outcome:
        texts, pictures = zip(*answer.pictures, strict=True) if answer.pictures else ((), ())
        drawn = list(zip(statements(texts), map(seen, pictures), strict=True))
        expected = len(self.request.wishes)
        number = len(drawn) == expected
        agreeing = sum(told is not None and scene is not None and told.agrees(scene) for told, scene in drawn)
        fulfilled = sum(
            scene is not None and wish.agrees(scene)
            for wish, (_, scene) in zip(self.request.wishes, drawn, strict=False)
        )
        right = number and agreeing == expected
        tally = Tally.one(right)
        marks = {
            "interleaving": tally,
            f"interleaving.{self.kind}": tally,
            "interleaving.number": Tally.one(number),
            "interleaving.places": Tally.one(bool(drawn) and all(told is not None for told, _ in drawn)),
            "interleaving.agreement": Tally(agreeing, len(drawn)),
            "interleaving.request": Tally(fulfilled, expected),
        }
        return Outcome(marks, right, f"seen: {'; '.join(wording(scene) for _, scene in drawn) or 'no picture'}")


def statements(texts: Sequence[str]) -> Iterator[Wish | None]:
    """What each of the texts before the pictures of a document says about its picture; None where that is nothing.

    A step says only what is new. The rest stays as it was said before.
    """
    wish: Wish | None = None
    for text in texts:
        wish = next_statement(text, wish)
        yield wish


def next_statement(text: str, before: Wish | None) -> Wish | None:
    """What a text says after another one."""
    if before and (background := NEW_BACKGROUND.search(text.lower())):
        return replace(before, background=background[1])
    if before and (added := ADDED.search(text.lower())):
        new = read(added[1])
        return new and replace(before, shapes=(*(before.shapes or ()), *(new.shapes or ())))
    return read(text)


def interleaving_trials(rng: random.Random, count: int) -> Iterator[InterleavingTrial]:
    """Requests of all kinds in turn."""
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        yield InterleavingTrial(kind, KINDS[kind](rng), rng.getrandbits(31))
