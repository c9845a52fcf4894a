"""Answers without a fault score full marks, and each kind of mistake costs its own measures and no other."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from models.training.documents.questions import TOPICS
from models.training.documents.requests import Request
from models.training.world import BACKGROUNDS, COLORS, RELATIONS, Scene, Shape, Wish, draw, holds
from server.evaluation.comprehension import comprehension_trials
from server.evaluation.creation import (
    CompositionTrial,
    CreationTrial,
    RelationTrial,
    composition_trials,
    creation_trials,
    relation_trials,
)
from server.evaluation.measures import MEASURES
from server.evaluation.plan import Plan
from server.evaluation.scores import Marks, total
from server.evaluation.trial import Answer
from tests.evaluation.perfect import answered_document, perfect_answer

PLAN = Plan(comprehension=32, creation=40, relations=16, composition=16, interleaving=0, feedback=8)

TWO = Scene("white", (Shape("star", "red", "big", "left"), Shape("circle", "yellow", "small", "top right")))


def missed(marks: Marks) -> set[str]:
    """The measures that are not full."""
    return {name for name, tally in marks.items() if tally.right < tally.of}


def showing(scene: Scene) -> Answer:
    """An answer of one picture."""
    return Answer(("Here it is.", draw(scene)))


def with_shape(scene: Scene, number: int, **changes: str) -> Scene:
    """The scene with a shape changed."""
    shapes = list(scene.shapes)
    shapes[number] = replace(shapes[number], **changes)
    return replace(scene, shapes=tuple(shapes))


def creation_of(scene: Scene) -> CreationTrial:
    """A trial that asks for all that a scene shows."""
    return CreationTrial(Request("Draw it.", (Wish.of(scene),), (scene,)), seed=0)


def test_answers_without_a_fault_score_full_marks_in_every_measure() -> None:
    trials = PLAN.trials(seed=3)
    marks = [trial.assess(perfect_answer(trial)).marks for trial in trials if trial.section != "control"]
    for kind in ("several", "story", "steps"):
        for seed in range(8):
            trial, answer = answered_document(kind, seed)
            marks.append(trial.assess(answer).marks)
    tallies = total(marks)
    assert missed(tallies) == set()
    assert set(tallies) == set(MEASURES) - {"judge", "feedback.control"}


def test_the_same_seed_asks_the_same() -> None:
    texts = [[trial.input.text for trial in PLAN.trials(seed)] for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_no_answer_at_all_misses_everything() -> None:
    for trial in replace(PLAN, interleaving=3).trials(seed=1):
        outcome = trial.assess(Answer(()))
        assert not outcome.right
        assert not any(tally.right for tally in outcome.marks.values())


def test_pictures_that_failed_count_as_missing() -> None:
    outcome = creation_of(TWO).assess(Answer(("Here it is.", None)))
    assert not any(tally.right for tally in outcome.marks.values())


COLOR_KIND = {"creation.color_kind", "creation.color_kind.2", "creation.shape.color_kind"}
PLACE = {"creation.place", "creation.shape.place"}


@pytest.mark.parametrize(
    ("mistake", "costs"),
    [
        (lambda s: with_shape(s, 0, color="blue"), COLOR_KIND),
        (lambda s: with_shape(s, 1, kind="square"), COLOR_KIND),
        (lambda s: with_shape(s, 0, place="bottom"), PLACE),
        (lambda s: with_shape(s, 1, size="big"), {"creation.size"}),
        (lambda s: replace(s, background="mint"), {"creation.background"}),
        (
            lambda s: replace(s, shapes=(*s.shapes, Shape("square", "blue", "small", "bottom right"))),
            COLOR_KIND - {"creation.shape.color_kind"},
        ),
        (lambda s: replace(s, shapes=s.shapes[:1]), COLOR_KIND | PLACE | {"creation.size"}),
    ],
    ids=["color", "kind", "place", "size", "background", "one more", "one less"],
)
def test_each_mistake_in_a_picture_costs_its_own_measures(mistake: Callable[[Scene], Scene], costs: set[str]) -> None:
    trial = creation_of(TWO)
    assert missed(trial.assess(showing(TWO)).marks) == set()
    assert missed(trial.assess(showing(mistake(TWO))).marks) == costs | {"creation.everything"}


def test_shapes_are_found_whatever_their_order_and_colours_swapped_are_seen() -> None:
    star, circle = TWO.shapes
    swapped = replace(TWO, shapes=(replace(star, color=circle.color), replace(circle, color=star.color)))
    assert missed(creation_of(TWO).assess(showing(replace(TWO, shapes=(circle, star)))).marks) == set()
    assert missed(creation_of(TWO).assess(showing(swapped)).marks) >= COLOR_KIND


def test_what_a_request_leaves_open_is_not_counted() -> None:
    trial = next(
        t
        for t in creation_trials(random.Random(0), 40)
        if all(s.place is None for s in t.request.wishes[0].shapes or ())
    )
    marks = trial.assess(perfect_answer(trial)).marks
    assert not PLACE & set(marks)


def test_a_larger_picture_is_judged_like_a_small_one() -> None:
    large = np.repeat(np.repeat(draw(TWO), 4, axis=0), 4, axis=1)
    assert missed(creation_of(TWO).assess(Answer((large,))).marks) == set()


@pytest.mark.parametrize("number", range(len(RELATIONS)))
def test_a_relation_the_other_way_round_is_wrong(number: int) -> None:
    trial = list(relation_trials(random.Random(2), len(RELATIONS)))[number]
    assert isinstance(trial, RelationTrial)
    (scene,) = trial.request.scenes
    first, second = scene.shapes
    turned = (
        replace(first, size=second.size, place=second.place),
        replace(second, size=first.size, place=first.place),
    )
    assert not holds(trial.relation, *turned)
    assert trial.assess(showing(scene)).right
    assert not trial.assess(showing(replace(scene, shapes=turned))).right


def test_a_relation_of_other_shapes_is_wrong() -> None:
    (trial,) = relation_trials(random.Random(2), 1)
    (scene,) = trial.request.scenes
    unused = next(color for color in COLORS if color not in {shape.color for shape in scene.shapes})
    assert not trial.assess(showing(with_shape(scene, 0, color=unused))).right


def test_composition_asks_for_held_out_combinations_and_wants_colour_kind_and_place() -> None:
    trials = list(composition_trials(random.Random(4), 12))
    assert {trial.combination for trial in trials} == {"pair", "triple"}
    for trial in trials:
        assert isinstance(trial, CompositionTrial)
        (scene,) = trial.request.scenes
        others = [background for background in BACKGROUNDS if background != scene.background]
        assert trial.assess(showing(replace(scene, background=others[0]))).right
    single = trials[0].request.scenes[0]
    elsewhere = "bottom right" if single.shapes[0].place == "top left" else "top left"
    outcome = trials[0].assess(showing(with_shape(single, 0, place=elsewhere)))
    assert missed(outcome.marks) == {"composition", f"composition.{trials[0].combination}"}


def test_a_wrong_answer_costs_its_topic_and_a_picture_is_no_answer() -> None:
    trials = list(comprehension_trials(random.Random(1), 8))
    for topic, trial in zip([*TOPICS, "description"], trials, strict=False):
        wrong = trial.assess(Answer(("I see a huge pink star in the center on a mint background.",)))
        assert missed(wrong.marks) == {"comprehension", f"comprehension.{topic}"}
        drawn = Answer((*perfect_answer(trial).parts, draw(TWO)))
        assert not trial.assess(drawn).right


def test_held_out_combinations_are_counted_apart() -> None:
    *_, last = comprehension_trials(random.Random(1), 8)
    assert set(last.assess(perfect_answer(last)).marks) == {"comprehension.held_out"}


def test_pictures_have_as_many_shapes_as_those_of_the_training_world() -> None:
    numbers = [len(trial.request.scenes[0].shapes) for trial in creation_trials(random.Random(0), 100)]
    assert [numbers.count(n) for n in (1, 2, 3)] == pytest.approx([50, 35, 15], abs=2)
    assert set(numbers[:12]) == {1, 2, 3}
