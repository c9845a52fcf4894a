"""How many cases of each kind an evaluation has, and the trials that they are."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

from server.evaluation.comprehension import comprehension_trials
from server.evaluation.creation import composition_trials, creation_trials, relation_trials
from server.evaluation.feedback import feedback_trials
from server.evaluation.interleaving import interleaving_trials
from server.evaluation.trial import Trial

QUICK = 10  # by which numbers are divided to try an evaluation out


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of cases.

    Attributes:
        judge: true drawings, to see how good the judge is.
        comprehension: questions about pictures; a fourth as many more ask about held-out combinations.
        creation: requests for a picture.
        relations: requests by relation.
        composition: requests for held-out combinations.
        interleaving: requests for several pictures.
        feedback: surprises, each with feedback and without.
        perplexity: true documents.
    """

    judge: int = 1000
    comprehension: int = 400
    creation: int = 160
    relations: int = 64
    composition: int = 64
    interleaving: int = 36
    feedback: int = 48
    perplexity: int = 200

    def quick(self) -> Self:
        """A tenth of what the model has to answer."""
        tenths = {name: max(1, count // QUICK) for name, count in asdict(self).items()}
        return replace(self, **{**tenths, "judge": self.judge})

    def with_cases(self, chosen: Sequence[str]) -> Self:
        """With other numbers, each given as ``NAME=N``.

        Raises:
            ValueError: one is no such name, or no number from 0.
        """
        numbers = asdict(self)
        for choice in chosen:
            name, _, count = choice.partition("=")
            if name not in numbers or not (count.isascii() and count.isdigit()):
                raise ValueError(f"{choice!r} is not NAME=N with a NAME of {', '.join(numbers)}")
            numbers[name] = int(count)
        return replace(self, **numbers)

    def trials(self, seed: int) -> list[Trial]:
        """All trials. Those of one kind are the same whatever the numbers of the others are."""
        return [
            *comprehension_trials(random.Random(f"comprehension {seed}"), self.comprehension),
            *creation_trials(random.Random(f"creation {seed}"), self.creation),
            *relation_trials(random.Random(f"relations {seed}"), self.relations),
            *composition_trials(random.Random(f"composition {seed}"), self.composition),
            *interleaving_trials(random.Random(f"interleaving {seed}"), self.interleaving),
            *feedback_trials(random.Random(f"feedback {seed}"), self.feedback),
        ]
