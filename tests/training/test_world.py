"""The synthetic world: which scenes there are, which are held out, what a wish says, how a scene is drawn."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from models.training.world import (
    BACKGROUNDS,
    COLORS,
    COUNTS,
    HELD_OUT_PAIRS,
    HOLLOW,
    KINDS,
    PLACES,
    RELATIONS,
    SIZES,
    Scene,
    Shape,
    Wish,
    WishedShape,
    complete,
    draw,
    fits,
    held_out,
    holds,
    inside,
    outline,
    related,
    sample_scene,
    trainable,
)

RED = Shape("circle", "red", "small", "center")
BLUE = Shape("square", "blue", "huge", "center")


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng) for _ in range(count)]


def test_scenes_have_one_to_three_shapes_in_the_shares_of_the_world() -> None:
    found = Counter(len(scene.shapes) for scene in scenes(4000))
    assert {count: found[count] / 4000 for count in COUNTS} == pytest.approx(COUNTS, abs=0.03)


def test_shapes_of_a_scene_differ_in_color_and_overlap_only_where_one_is_inside_another() -> None:
    sampled = scenes(2000)
    for scene in sampled:
        assert len({shape.color for shape in scene.shapes}) == len(scene.shapes)
        for first, second in itertools.combinations(scene.shapes, 2):
            assert first.place != second.place or inside(first, second)
    nested = [scene for scene in sampled if len({s.place for s in scene.shapes}) < len(scene.shapes)]
    assert len(nested) > 100


def test_the_drawings_of_shapes_that_fit_do_not_touch() -> None:
    """Drawn alone on one background, at the ends of the jitter, no two of them cover the same pixel."""
    rng = random.Random(3)
    for scene in scenes(150, seed=2):
        apart = [s for s in scene.shapes if sum(s.place == other.place for other in scene.shapes) == 1]
        covered = [(draw(Scene("black", (s,)), rng) > draw(Scene("black", ()))).any(-1) for s in apart]
        assert np.sum(covered, axis=0).max(initial=0) <= 1


def test_a_shape_inside_another_leaves_a_rim_all_around() -> None:
    rng = random.Random(5)
    for kind, outer in itertools.product(KINDS, HOLLOW):
        scene = Scene("black", related("inside", ("red", kind), ("blue", outer)))
        for _ in range(10):
            seen = draw(scene, rng)
            red = (seen == COLORS["red"]).all(-1)
            grown = np.pad(red, 2)
            around = [np.roll(grown, shift, axis) for shift in (-2, 2) for axis in (0, 1)]
            ring = np.logical_or.reduce(around)[2:-2, 2:-2] & ~red
            assert red.any()
            assert not (seen[ring] == BACKGROUNDS["black"]).all(-1).any()


def test_training_never_sees_what_is_held_out() -> None:
    assert all(trainable(scene.shapes) for scene in scenes(3000))


def test_a_held_out_scene_has_a_held_out_shape() -> None:
    rng = random.Random(1)
    for count in COUNTS:
        assert not any(trainable(sample_scene(rng, count, held_out=True).shapes) for _ in range(100))


def test_four_pairs_of_different_colors_and_kinds_and_some_triples_are_held_out() -> None:
    assert len({color for color, _ in HELD_OUT_PAIRS}) == len({kind for _, kind in HELD_OUT_PAIRS}) == 4
    triples = list(itertools.product(COLORS, KINDS, PLACES))
    out = {(c, k, p) for c, k, p in triples if held_out(Shape(k, c, "big", p))}
    others = {triple for triple in out if triple[:2] not in HELD_OUT_PAIRS}
    assert len(out) - len(others) == 4 * len(PLACES)
    assert 0.06 < len(others) / (len(triples) - 4 * len(PLACES)) < 0.1
    assert {place for _, _, place in others} == set(PLACES)
    # What is held out at one place is seen at another: only the combination is new.
    assert all(any((c, k, p) not in out for p in PLACES) for c, k, _ in others)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_holds_in_its_own_layout_and_never_both_ways(relation: str) -> None:
    for kind, other in itertools.product(KINDS, HOLLOW):
        first, second = related(relation, ("red", kind), ("blue", other))
        assert holds(relation, first, second)
        assert not holds(relation, second, first)
        assert fits((first, second))


def test_an_unknown_relation_or_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="beside"):
        holds("beside", RED, BLUE)
    with pytest.raises(ValueError, match="pentagon"):
        outline("pentagon", (32, 32), 8)


def test_a_wish_agrees_with_what_it_leaves_open_in_any_order() -> None:
    scene = Scene("white", (RED, BLUE))
    assert Wish().agrees(scene)
    assert Wish.of(scene).agrees(Scene("white", (BLUE, RED)))
    assert Wish(None, (WishedShape(color="blue"), WishedShape(kind="circle"))).agrees(scene)
    assert not Wish("black").agrees(scene)
    assert not Wish(None, (WishedShape(kind="circle"),)).agrees(scene)
    assert not Wish(None, (WishedShape(kind="circle"), WishedShape(color="red"))).agrees(scene)


def test_a_wish_is_completed_to_a_scene_of_the_training_world_that_agrees() -> None:
    rng = random.Random(6)
    for wish in (
        Wish(),
        Wish("mint"),
        Wish(None, (WishedShape(color="purple"),)),
        Wish("gray", (WishedShape(kind="star"), WishedShape(place="top"), WishedShape("square", "red", "small"))),
    ):
        for _ in range(50):
            scene = complete(wish, rng)
            assert wish.agrees(scene)
            assert trainable(scene.shapes)


def test_a_wish_for_a_held_out_shape_is_granted() -> None:
    wish = Wish(None, (WishedShape("circle", "purple"),))
    assert wish.agrees(complete(wish, random.Random(0)))


def test_a_wish_that_cannot_be_is_an_error() -> None:
    huge = WishedShape(size="huge", place="center")
    with pytest.raises(ValueError, match="no scene agrees"):
        complete(Wish(None, (huge, huge)), random.Random(0))


def test_a_picture_is_64_pixels_wide_and_its_flat_parts_have_the_colors_of_the_tables() -> None:
    picture = draw(Scene("mint", (BLUE, RED)))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[0, 0]) == BACKGROUNDS["mint"]
    assert tuple(picture[32, 32]) == COLORS["red"]
    assert tuple(picture[32, 43]) == COLORS["blue"]


def test_sizes_are_told_apart_by_area() -> None:
    for kind in KINDS:
        small, big, huge = (
            int((draw(Scene("black", (Shape(kind, "red", size, "center"),))) > 100).sum()) for size in SIZES
        )
        assert huge > 2 * big > 4 * small


def test_jitter_follows_its_generator_and_stays_within_two_pixels() -> None:
    scene = Scene("white", (RED,))
    assert np.array_equal(draw(scene, random.Random(2)), draw(scene, random.Random(2)))
    assert not np.array_equal(draw(scene, random.Random(2)), draw(scene, random.Random(3)))
    rng = random.Random(4)
    for _ in range(50):
        rows, columns = np.nonzero((draw(scene, rng) != BACKGROUNDS["white"]).any(-1))
        assert abs(rows.mean() - 31.5) < 2
        assert abs(columns.mean() - 31.5) < 2
