"""All that is measured in shares: names, titles, bars."""

from dataclasses import dataclass

from models.training.documents.questions import TOPICS
from models.training.world import RELATIONS
from server.evaluation.comprehension import DESCRIPTION
from server.evaluation.interleaving import KINDS
from server.evaluation.scores import Bar


@dataclass(frozen=True, slots=True)
class Measure:
    """A share of cases that came out right.

    Attributes:
        name: what tallies are counted under.
        title: for people. A measure without a bar is a detail of the one above it.
        bar: what a good model reaches.
    """

    name: str
    title: str
    bar: Bar | None = None


NUMBERS = {1: "one shape", 2: "two shapes", 3: "three shapes"}


def details(prefix: str, names: tuple[str, ...]) -> tuple[Measure, ...]:
    """Measures of the kinds of cases that another one counts together."""
    return tuple(Measure(f"{prefix}.{name.replace(' ', '_')}", name) for name in names)


SECTIONS: dict[str, tuple[Measure, ...]] = {
    "judge": (Measure("judge", "true drawings read right", Bar(0.99, "above")),),
    "comprehension": (
        Measure("comprehension", "questions about true pictures", Bar(0.95)),
        *details("comprehension", (*TOPICS, DESCRIPTION)),
        Measure("comprehension.held_out", "held-out combinations, apart"),
    ),
    "creation": (
        Measure("creation.color_kind", "colours and kinds as asked for", Bar(0.95)),
        *(Measure(f"creation.color_kind.{n}", title) for n, title in NUMBERS.items()),
        Measure("creation.shape.color_kind", "each shape by itself"),
        Measure("creation.place", "places as asked for", Bar(0.90)),
        Measure("creation.shape.place", "each shape by itself"),
        Measure("creation.size", "sizes"),
        Measure("creation.background", "background"),
        Measure("creation.everything", "all that was asked for"),
    ),
    "relations": (
        Measure("relations", "both shapes, in the relation", Bar(0.80)),
        *details("relations", RELATIONS),
    ),
    "composition": (
        Measure("composition", "colour, kind and place", Bar(0.85)),
        Measure("composition.pair", "new colour and kind"),
        Measure("composition.triple", "new colour, kind and place"),
        Measure("composition.color_kind", "colour and kind alone"),
    ),
    "interleaving": (
        Measure("interleaving", "documents without a fault", Bar(0.90)),
        *details("interleaving", tuple(KINDS)),
        Measure("interleaving.number", "right number of pictures"),
        Measure("interleaving.places", "each picture after its text"),
        Measure("interleaving.agreement", "pictures as the text says"),
        Measure("interleaving.request", "pictures as the request says"),
    ),
    "feedback": (
        Measure("feedback", "text after agrees with picture", Bar(0.90)),
        Measure("feedback.control", "the same without feedback", Bar(0.40, "below")),
    ),
}

MEASURES = {measure.name: measure for measures in SECTIONS.values() for measure in measures}
