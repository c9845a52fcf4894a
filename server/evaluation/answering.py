"""Trials answered, several at a time, and assessed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.evaluation.model import EvaluatedModel
from server.evaluation.trial import Answer, Outcome, Trial
from server.tasks import end


@dataclass(frozen=True, slots=True)
class Answered:
    """A trial, what the model answered, and what that is worth."""

    trial: Trial
    answer: Answer
    outcome: Outcome

    def json(self) -> dict[str, Any]:
        """All but the pictures, for programs."""
        return {
            "section": self.trial.section,
            "prompt": self.trial.input.text,
            "seed": self.trial.input.seed,
            "answer": [part if isinstance(part, str) else "[picture]" for part in self.answer.parts],
            "right": self.outcome.right,
            "remark": self.outcome.remark,
            "missed": sorted(name for name, tally in self.outcome.marks.items() if tally.right < tally.of),
        }


async def answer_all(
    model: EvaluatedModel, trials: Sequence[Trial], concurrency: int, advance: Callable[[], None]
) -> list[Answered]:
    """Put all trials to the model.

    Args:
        model: answers.
        trials: what it is asked.
        concurrency: requests at the same time.
        advance: called after each.

    Returns:
        One for each trial, in their order.

    Raises:
        UnreachableError, RefusedError: see :meth:`~server.evaluation.model.EvaluatedModel.answer`.
    """
    at_once = asyncio.Semaphore(concurrency)

    async def answered(trial: Trial) -> Answered:
        async with at_once:
            answer = await model.answer(trial.input)
        outcome = await asyncio.to_thread(trial.assess, answer)
        advance()
        return Answered(trial, answer, outcome)

    tasks = [asyncio.create_task(answered(trial)) for trial in trials]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(tasks)
