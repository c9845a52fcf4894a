"""What is asked for: answers of so many tokens and pictures, arriving at random."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it will turn out.

    Attributes:
        arrives_s: when it is asked for, in seconds from the begin.
        prompt_tokens: that are not in the prefix cache.
        segments: tokens of text before, between and after its pictures: one more than it has pictures.
    """

    arrives_s: float
    prompt_tokens: int
    segments: tuple[int, ...]

    @property
    def pictures(self) -> int:
        """How many it has."""
        return len(self.segments) - 1


@dataclass(frozen=True, slots=True)
class Traffic:
    """Answers that arrive independently of each other (a Poisson process).

    Attributes:
        rate: answers a second.
        images: pictures of an answer, on average; each answer has the whole number below or above.
        prompt_tokens: of an answer, on average.
        text_tokens: of an answer, on average. Lengths are spread as Gamma distributions of shape 4.
    """

    rate: float
    images: float
    prompt_tokens: float
    text_tokens: float

    def answers(self, rng: random.Random, seconds: float) -> Iterator[Answer]:
        """Those of so many seconds, in the order of their arrival."""
        now = rng.expovariate(self.rate)
        while now < seconds:
            pictures = int(self.images) + (rng.random() < self.images % 1)
            share = self.text_tokens / (pictures + 1)
            segments = tuple(length(rng, share) for _ in range(pictures + 1))
            yield Answer(now, length(rng, self.prompt_tokens), segments)
            now += rng.expovariate(self.rate)


def length(rng: random.Random, mean: float) -> int:
    """A number of tokens, at least one: half of them lie within a third of the mean."""
    return max(1, round(rng.gammavariate(4, mean / 4)))
