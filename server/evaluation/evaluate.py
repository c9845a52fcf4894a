"""``dreamserve evaluate``: how good a model is, measured through the service."""

import asyncio
import json
import random
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.console import Console

from server.client.connection import RefusedError, UnreachableError
from server.evaluation.answering import Answered, answer_all
from server.evaluation.conditions import conditions_here, conditions_of
from server.evaluation.fidelity import Fidelity, fidelity
from server.evaluation.judging import judge_accuracy
from server.evaluation.model import EvaluatedModel, NotServedError, RemoteServer, remote_model, served_model
from server.evaluation.plan import Plan
from server.evaluation.progress import stage
from server.evaluation.report import Perplexity, Report
from server.evaluation.scores import NotMeasured, total
from server.evaluation.sheet import contact_sheet
from server.settings import Settings

REPORT_FILE = "evaluation.json"
ANSWERS_FILE = "answers.jsonl"
SHEET_FILE = "contact-sheet.png"


class Exit(IntEnum):
    """How ``dreamserve evaluate`` ends."""

    OK = 0
    MISSED = 1
    """A bar is missed, and that was asked to be a failure."""
    NOT_SERVED = 3
    """The model cannot be served, or the server did not answer."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
        plan: numbers of cases.
        seed: decides all trials, and the seeds of the answers.
        concurrency: requests at the same time.
        console: where progress is shown.
    """

    plan: Plan
    seed: int
    concurrency: int
    console: Console

    async def run(self, model: EvaluatedModel, conditions: dict[str, Any]) -> tuple[Report, list[Answered]]:
        """Evaluate a model.

        Args:
            model: answers.
            conditions: what the numbers depend on, as far as the model does not tell.

        Returns:
            What was found, and all that was answered.

        Raises:
            UnreachableError, RefusedError: see :meth:`~server.evaluation.model.EvaluatedModel.answer`.
        """
        begin = time.monotonic()
        card = await model.card()
        trials = await asyncio.to_thread(self.plan.trials, self.seed)
        with stage(self.console, "answers", len(trials)) as advance:
            answered = await answer_all(model, trials, self.concurrency, advance)
        perplexity = await self._perplexity(model)
        tallies = total(one.outcome.marks for one in answered)
        tallies["judge"] = await asyncio.to_thread(judge_accuracy, self._rng("judge"), self.plan.judge)
        distance = await asyncio.to_thread(self._fidelity, answered)
        conditions = {
            **conditions_of(card, self.seed, self.plan, self.concurrency),
            **conditions,
            "seconds": round(time.monotonic() - begin, 1),
        }
        return Report(conditions, tallies, distance, perplexity), answered

    async def _perplexity(self, model: EvaluatedModel) -> Perplexity | NotMeasured:
        if model.backend is None:
            return NotMeasured("HTTP does not tell log probabilities of prompts")
        if not self.plan.perplexity:
            return NotMeasured("no documents")
        # Imports vLLM, for which nobody waits who asks a server elsewhere.
        from server.evaluation.perplexity import perplexity

        with stage(self.console, "true documents", self.plan.perplexity) as advance:
            return await perplexity(
                model.backend, self._rng("perplexity"), self.plan.perplexity, self.concurrency, advance
            )

    def _fidelity(self, answered: list[Answered]) -> Fidelity | NotMeasured:
        try:
            return fidelity(answered, self._rng("fidelity"))
        except ModuleNotFoundError as error:
            return NotMeasured(f"{error.name} is not installed")
        except ValueError as error:
            return NotMeasured(str(error))

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{purpose} {self.seed}")


def evaluate(evaluation: Evaluation, server: Settings | RemoteServer, out: Path, strict: bool) -> Exit:
    """Evaluate a model, print the report, save it with a contact sheet.

    Args:
        evaluation: what is measured.
        server: one that runs, or the settings of one that is started for this in this process.
        out: folder for the files.
        strict: whether a missed bar is a failure.
    """
    console = evaluation.console
    model: AbstractAsyncContextManager[EvaluatedModel]
    if isinstance(server, RemoteServer):
        model, conditions = remote_model(server), {"url": server.url}
    else:
        console.print(f"serving {server.model.path}", style="dim", highlight=False, soft_wrap=True)
        model, conditions = served_model(server), conditions_here(server.model.path)

    async def run() -> tuple[Report, list[Answered]]:
        async with model as opened:
            return await evaluation.run(opened, conditions)

    try:
        report, answered = asyncio.run(run())
    except (NotServedError, UnreachableError, RefusedError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return Exit.NOT_SERVED
    save(report, answered, out)
    report.show(console)
    saved = ", ".join(str(out / name) for name in (REPORT_FILE, ANSWERS_FILE, SHEET_FILE))
    console.print(f"\nsaved: {saved}", style="dim", markup=False, highlight=False, soft_wrap=True)
    return Exit.MISSED if strict and not report.meets_all_bars else Exit.OK


def save(report: Report, answered: list[Answered], out: Path) -> None:
    """Write the report as JSON, each answer with what came of it as a line of JSON, and the contact sheet."""
    out.mkdir(parents=True, exist_ok=True)
    (out / REPORT_FILE).write_text(json.dumps(report.json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = (json.dumps(one.json(), ensure_ascii=False) for one in answered)
    (out / ANSWERS_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    contact_sheet(report, answered).save(out / SHEET_FILE, optimize=True)
