"""The contact sheet: the first trials of each section, each with its pictures and what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from server.evaluation import typesetting
from server.evaluation.answering import Answered
from server.evaluation.report import BarResult, Report
from server.evaluation.typesetting import Box, dot, padded

WIDTH = 1600  # pixels, as all lengths here
MARGIN = 56
GAP = 20
PADDING = 18
PICTURE = 128
CHIP = 104  # height of a bar's value with its name

PAPER, CARD, INK, QUIET, RULE = "#f6f4f0", "#ffffff", "#23211e", "#77716a", "#e0dbd3"
GOOD, BAD = "#2e8b57", "#c8412f"

TITLE, HEADING, BODY, SMALL = 40, 24, 17, 15  # font sizes


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the sheet.

    Attributes:
        title: its heading.
        cards: how many trials it shows.
        abreast: cards beside each other.
    """

    title: str
    cards: int
    abreast: int = 3


SECTIONS = {
    "comprehension": Section("Comprehension: questions about true pictures", 6),
    "creation": Section("Creation: one picture on request", 12),
    "relations": Section("Relations", 6),
    "composition": Section("Composition: combinations that training never had", 6),
    "feedback": Section("Feedback: something is left open, and said after the picture is seen", 6),
    "control": Section("Control: the same without feedback", 3),
    "interleaving": Section("Interleaving: documents of several pictures", 6, abreast=1),
}


def contact_sheet(report: Report, answered: Sequence[Answered]) -> Image.Image:
    """The sheet, 1600 pixels wide and as high as it needs.

    Args:
        report: for the heading.
        answered: in the order of the trials; the first of each section are shown.
    """
    boxes = [heading(report)]
    for name, section in SECTIONS.items():
        shown = [one for one in answered if one.trial.section == name][: section.cards]
        if shown:
            boxes += [on_paper(section.title, WIDTH - 2 * MARGIN, HEADING, INK), *rows(shown, section.abreast)]
    return padded(typesetting.column(boxes, GAP, PAPER), MARGIN, PAPER)


def heading(report: Report) -> Box:
    """What was evaluated, and the bars."""
    conditions = report.conditions
    about = [conditions["date"], f"seed {conditions['seed']}"]
    about += [f"checkpoint {conditions['checkpoint']}"] if "checkpoint" in conditions else []
    width = WIDTH - 2 * MARGIN
    bars = list(report.bars())
    each = (width - (len(bars) - 1) * GAP // 2) // len(bars)
    chips = [chip(result, each) for result in bars]
    return typesetting.column(
        [
            on_paper(f"Evaluation of {conditions['model']}", width, TITLE, INK),
            on_paper("  ·  ".join(about), width, SMALL, QUIET),
            typesetting.row(chips, GAP // 2, PAPER),
        ],
        GAP // 2,
        PAPER,
    )


def chip(result: BarResult, width: int) -> Box:
    """A bar's value over its name."""
    inner = width - 2 * PADDING
    value = "-" if result.tally.rate is None else f"{result.tally.rate:.1%}"
    color = GOOD if result.verdict == "met" else BAD
    title = result.name.replace(".", ": ").replace("_", " + ")
    words = [on_card(value, inner, HEADING, color), on_card(title, inner, SMALL - 2, QUIET)]
    return typesetting.card(typesetting.column(words, 2, CARD), width, CHIP, PADDING, CARD, RULE, PAPER)


def rows(answered: Sequence[Answered], abreast: int) -> Iterator[Box]:
    """Cards in rows, those of one row equally high."""
    width = (WIDTH - 2 * MARGIN - (abreast - 1) * GAP) // abreast
    draw = wide_card if abreast == 1 else narrow_card
    for first in range(0, len(answered), abreast):
        contents = [draw(one, width - 2 * PADDING) for one in answered[first : first + abreast]]
        height = max(box.height for box in contents) + 2 * PADDING
        yield typesetting.row(
            [typesetting.card(box, width, height, PADDING, CARD, RULE, PAPER) for box in contents], GAP, PAPER
        )


def narrow_card(one: Answered, width: int) -> Box:
    """A picture, shown or drawn, with the words beside it."""
    shown = next((piece for piece in one.trial.input.prompt if isinstance(piece, np.ndarray)), None)
    picture = one.answer.first_picture if shown is None else shown
    beside = width - PICTURE - PADDING
    words = [
        on_card(one.trial.input.text, beside, BODY, INK, most=5),
        on_card(one.answer.text, beside, SMALL, QUIET, most=5),
        remark(one, beside),
    ]
    return typesetting.row([thumbnail(picture), typesetting.column(words, 6, CARD)], PADDING, CARD)


def wide_card(one: Answered, width: int) -> Box:
    """A document: its pictures beside each other, each over the text that came before it."""
    abreast = 5
    each = (width - (abreast - 1) * PADDING) // abreast
    figures = [
        typesetting.column([thumbnail(picture), on_card(text.strip(), each, SMALL, QUIET, most=7)], 8, CARD)
        for text, picture in one.answer.pictures
    ] or [on_card(one.answer.text, width, SMALL, QUIET, most=4)]
    blank = Image.new("RGB", (each, 1), CARD)
    cells = [typesetting.column([figure, blank], 0, CARD) for figure in figures]
    return typesetting.column(
        [on_card(one.trial.input.text, width, BODY, INK), typesetting.row(cells, PADDING, CARD), remark(one, width)],
        12,
        CARD,
    )


def remark(one: Answered, width: int) -> Box:
    """Whether it is right, and what was seen."""
    color = GOOD if one.outcome.right else BAD
    text = on_card(one.outcome.remark, width - SMALL - 6, SMALL, color, most=4)
    return typesetting.row([dot(SMALL, color, CARD), text], 6, CARD)


def thumbnail(picture: np.ndarray | None) -> Box:
    """A picture at the size of the sheet; an empty frame without one."""
    size = (PICTURE, PICTURE)
    if picture is None:
        return typesetting.card(Image.new("RGB", (1, 1), CARD), *size, 2, PAPER, RULE, CARD)
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


on_paper = partial(typesetting.paragraph, paper=PAPER)
on_card = partial(typesetting.paragraph, paper=CARD)
