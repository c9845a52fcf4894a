"""Documents about the world: texts say what wishes hold, pictures show what texts say, answers are right."""

import itertools
import random
import re

import numpy as np
import pytest

from models.training.documents import INSTRUCTIONS, INTERLEAVED, PAIRS, Document, Drawn, Mixture, Shown, render
from models.training.documents.document import Turn
from models.training.documents.mixtures import Kind, bare, casual, spent
from models.training.documents.pictures import (
    caption,
    direct,
    drawing,
    interview,
    looking,
    question,
    relation,
    several,
    statements,
    surprise,
)
from models.training.documents.questions import TOPICS, questions_about, sample_question, statements_about
from models.training.documents.requests import (
    CHOICES,
    Request,
    ask_by_relation,
    ask_for_scene,
    ask_for_several,
    ask_for_steps,
    ask_for_story,
    ask_for_surprise,
)
from models.training.documents.sequences import dialogue, steps, story
from models.training.documents.wording import describe, in_reading_order, name, read, sketch, tell
from models.training.world import (
    HELD_OUT_PAIRS,
    RELATIONS,
    Scene,
    Shape,
    Wish,
    WishedShape,
    holds,
    sample_scene,
    trainable,
)

KINDS = [*INTERLEAVED.shares]
SCENE = Scene("white", (Shape("circle", "red", "small", "top"), Shape("star", "blue", "huge", "bottom")))


def made(kind: Kind, count: int = 100) -> list[Document]:
    rng = random.Random(kind.__name__)
    return [kind(rng) for _ in range(count)]


def sampled(mixture: Mixture, count: int = 2000) -> list[Document]:
    rng = random.Random(11)
    return [mixture.sample(rng) for _ in range(count)]


def drawn(document: Document) -> list[Drawn]:
    return [piece for piece in document.pieces if isinstance(piece, Drawn)]


def scene_of(piece: Drawn | Shown) -> Scene:
    assert isinstance(piece.picture, Scene)
    return piece.picture


def texts(document: Document) -> list[str]:
    return [piece for piece in document.pieces if isinstance(piece, str)]


# Words and wishes


@pytest.mark.parametrize("full", [True, False])
def test_a_description_is_read_back_as_the_wish_that_it_says(full: bool) -> None:
    rng = random.Random(1)
    for _ in range(500):
        scene = sample_scene(rng)
        wish = Wish.of(scene) if full else sketch(scene, rng)
        assert read(f"Here is {describe(wish)}.") == wish
        assert wish.agrees(scene)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_request_by_relation_is_read_as_its_one_layout(relation: str) -> None:
    rng = random.Random(2)
    for held_out in (False, True):
        request = ask_by_relation(rng, relation, held_out=held_out)
        assert relation in request.text
        assert (read(request.text),) == request.wishes
        assert holds(relation, *request.scenes[0].shapes)
        assert trainable(request.scenes[0].shapes) != held_out


def test_a_text_is_read_by_its_last_sentence_with_a_shape() -> None:
    wish = Wish("black", (WishedShape("star", "red"),))
    assert read("Then a blue circle comes. Now we see a red star on a black background. I like it.") == wish
    assert read("It is an orange shape.") == Wish(None, (WishedShape(color="orange"),))
    assert read("The end.") is None


def test_a_shape_inside_another_is_said_to_be() -> None:
    inner, outer = Shape("star", "red", "small", "left"), Shape("circle", "blue", "huge", "left")
    said = "a small red star inside a huge blue circle on the left on a white background"
    assert tell(Scene("white", (inner, outer))) == said


def test_no_words_say_that_everything_is_open() -> None:
    with pytest.raises(ValueError, match="open"):
        describe(Wish())


def test_all_documents_use_a_small_closed_vocabulary() -> None:
    early, late = (
        {word for document in sampled(mixture) for text in texts(document) for word in re.findall(r"\w+", text)}
        for mixture in (INTERLEAVED, INSTRUCTIONS)
    )
    assert len(early | late) < 180


# Documents


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_agrees_with_its_wish_and_belongs_to_the_training_world(kind: Kind) -> None:
    for document in made(kind):
        for piece in document.pieces:
            if isinstance(piece, Drawn):
                assert piece.wish is not None
                assert piece.wish.agrees(scene_of(piece))
            if not isinstance(piece, str):
                assert trainable(scene_of(piece).shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_names_a_held_out_combination(kind: Kind) -> None:
    pairs = {f"{color} {kind}" for color, kind in HELD_OUT_PAIRS}
    for document in made(kind, 300):
        for text in texts(document):
            assert not any(pair in text for pair in pairs)
            for statement in text.split("."):
                for wished in (read(statement) or Wish(shapes=())).shapes or ():
                    if None not in (wished.kind, wished.color, wished.place):
                        assert trainable([Shape(wished.kind, wished.color, "big", wished.place)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [drawing, relation, several, story])
def test_the_text_before_a_picture_says_all_of_it(kind: Kind) -> None:
    for document in made(kind):
        for before, piece in itertools.pairwise(document.answer):
            if isinstance(piece, Drawn):
                assert isinstance(before, str)
                assert read(before) == piece.wish == Wish.of(scene_of(piece))


def test_a_picture_drawn_at_once_has_the_wish_of_its_request() -> None:
    for document in made(direct):
        (text,) = document.prompt or ()
        assert isinstance(text, str)
        assert read(text) == drawn(document)[0].wish


def test_an_answer_has_the_pictures_that_were_asked_for() -> None:
    words = {"two": 2, "three": 3, "four": 4}
    for document in made(several) + made(story) + made(steps):
        (text,) = document.prompt or ()
        assert isinstance(text, str)
        stated = [number for word, number in words.items() if f" {word} " in text]
        assert len(drawn(document)) == (stated[0] if stated else 1 + len(re.findall(r"(?:,| and) then ", text)))
        assert 2 <= len(drawn(document)) <= 4


def test_something_changes_from_each_picture_of_a_story_to_the_next() -> None:
    for document in made(story):
        for before, after in itertools.pairwise(drawn(document)):
            assert before.picture != after.picture


def test_each_step_adds_a_shape_or_changes_the_background() -> None:
    for document in made(steps):
        scenes = [scene_of(piece) for piece in drawn(document)]
        said = [text for text in texts(document) if text.startswith("Step")]
        for before, after, text in zip(scenes, scenes[1:], said[1:], strict=False):
            if before.background == after.background:
                assert after.shapes[:-1] == before.shapes
                assert read(text) == Wish(None, (WishedShape.of(after.shapes[-1]),))
            else:
                assert after.shapes == before.shapes
                assert after.background in text


def test_a_surprise_leaves_something_open_that_the_text_afterwards_names() -> None:
    for document in made(surprise, 200):
        before, piece, after = document.answer
        assert isinstance(before, str)
        assert isinstance(piece, Drawn)
        assert isinstance(after, str)
        scene, wish = scene_of(piece), piece.wish
        assert wish is not None
        assert wish.agrees(scene)
        assert read(before) == wish
        assert all(None in (shape.color, shape.kind) for shape in wish.shapes or ())
        assert {(s.size, s.place) for s in wish.shapes or ()} == {(s.size, s.place) for s in scene.shapes}
        if "surprise" in before:
            assert read(after) == Wish.of(scene)
        else:
            (shape,) = scene.shapes
            assert read(after) == Wish(None, (WishedShape(shape.kind, shape.color),))


def test_a_surprise_is_always_shown_to_the_model() -> None:
    for document in sampled(Mixture({surprise: 1}, bare=False), 100):
        assert document.feedback
    assert not all(document.feedback for document in sampled(INSTRUCTIONS, 100))


def test_a_dialogue_goes_on_from_its_picture() -> None:
    for document in made(dialogue):
        (turn,) = document.earlier
        scene = scene_of(drawn(document)[0])
        if len(drawn(document)) == 1:
            (asked,), (answer,) = document.prompt or (), document.answer
            assert any((q.text, q.answer) == (asked, answer) for topic in TOPICS for q in questions_about(scene, topic))
        else:
            assert drawn(document)[1].picture != scene
        assert turn.answer[1] == Drawn(scene, Wish.of(scene))


def test_an_interview_asks_different_things_about_one_picture() -> None:
    for document in made(interview):
        (shown,) = (piece for piece in document.pieces if isinstance(piece, Shown))
        scene = scene_of(shown)
        right = {(q.text, q.answer) for topic in TOPICS for q in questions_about(scene, topic)}
        said = [piece for piece in document.pieces if isinstance(piece, str)]
        exchanges = list(zip(said[::2], said[1::2], strict=True))
        assert 6 <= len(exchanges) <= 14
        assert len(set(exchanges)) == len(exchanges)
        assert right >= set(exchanges)
    assert {len(scene_of(document.pieces[0]).shapes) for document in made(interview)} == {1, 2, 3}


def test_statements_hold_of_their_picture_and_name_one_shape_each() -> None:
    about = statements_about(SCENE)
    assert {"The circle is red.", "The small shape is a circle.", "The shape at the top is small."} <= set(about)
    assert len(about) == len(set(about)) == 2 * 4 * 3
    twins = Scene("white", (Shape("circle", "red", "small", "top"), Shape("circle", "blue", "small", "bottom")))
    assert not [text for text in statements_about(twins) if text.startswith(("The circle", "The small"))]
    for document in made(statements):
        shown, text = document.answer
        scene = scene_of(shown)
        said = re.findall(r"[^.]+\.", text)
        stated = {statement.strip() for statement in said}
        assert stated - {f"The background is {scene.background}."} < stated
        assert stated <= {f"The background is {scene.background}.", *statements_about(scene)}
        assert 1 < len(said) == len(set(said)) <= 10


def test_what_is_seen_is_told_in_reading_order() -> None:
    inner, outer = Shape("star", "red", "small", "left"), Shape("circle", "blue", "huge", "left")
    low, high = Shape("star", "pink", "big", "bottom"), Shape("square", "brown", "big", "top right")
    assert in_reading_order(Scene("white", (low, outer, high))).shapes == (high, outer, low)
    assert "inside" in tell(in_reading_order(Scene("white", (outer, inner))))


def test_what_the_user_shows_is_described() -> None:
    for document in made(looking):
        shown = document.pieces[0]
        assert isinstance(shown, Shown)
        assert read(str(document.answer[0])) == Wish.of(in_reading_order(scene_of(shown)))


# Forms


def test_a_bare_document_has_the_same_pieces_without_a_conversation() -> None:
    for document in sampled(INSTRUCTIONS, 300):
        stripped = bare(document)
        assert stripped.prompt is None
        assert stripped.earlier == ()
        assert drawn(stripped) == drawn(document)
        assert " ".join(texts(stripped)) == " ".join(filter(None, texts(document)))
        for one, other in itertools.pairwise(stripped.pieces):
            assert not (isinstance(one, str) and isinstance(other, str))


def test_an_answer_that_runs_out_of_pictures_goes_on_in_words() -> None:
    pictures = [Drawn(SCENE, Wish.of(SCENE)) for _ in range(3)]
    answer = ("One.", pictures[0], "Two.", pictures[1], "Three.", pictures[2], "Done.")
    document = Document(("Draw three.",), answer, earlier=(Turn(("Draw.",), ("Here.", pictures[0])),))
    rng = random.Random(6)

    left = [spent(document, rng) for _ in range(50)]

    assert {one.answer for one in left} == {
        ("One. Two. Three. Done.",),
        ("One.", pictures[0], "Two. Three. Done."),
        ("One.", pictures[0], "Two.", pictures[1], "Three. Done."),
    }
    assert all(one.earlier == document.earlier for one in left)
    told = Document(("What is it?",), ("A circle.", ""))
    assert spent(told, rng) == told
    silent = Document(("Draw.",), (pictures[0],))
    assert spent(silent, rng) == silent


def test_every_answer_says_or_shows_something() -> None:
    assert all(document.answer for mixture in (PAIRS, INTERLEAVED, INSTRUCTIONS) for document in sampled(mixture, 3000))


def test_few_documents_run_out_of_pictures_and_no_surprise_does() -> None:
    assert not [document for document in sampled(Mixture({surprise: 1}, bare=False), 300) if not drawn(document)]
    without = [document for document in sampled(Mixture({drawing: 1}, bare=False), 2000) if not drawn(document)]
    assert 0.005 < len(without) / 2000 < 0.05


def test_mixtures_give_bare_documents_or_conversations() -> None:
    assert all(document.prompt is None for document in sampled(INTERLEAVED, 200) + sampled(PAIRS, 200))
    assert all(document.prompt for document in sampled(INSTRUCTIONS, 200))


def test_only_a_caption_with_its_picture_teaches_no_text() -> None:
    assert [kind for kind in KINDS if not all(document.learned for document in made(kind, 20))] == [caption]


def test_a_casual_user_writes_small_and_the_answer_stays_tidy() -> None:
    document = Document(("Draw a red circle.",), ("Here it is.", Drawn(SCENE, Wish())))
    assert casual(document) == Document(("draw a red circle",), document.answer)


def test_rendering_draws_every_scene_and_keeps_the_wishes() -> None:
    document = Document((Shown(SCENE), "Again."), ("Here.", Drawn(SCENE, Wish.of(SCENE))), earlier=())
    one, same, other = (render(document, random.Random(seed)) for seed in (1, 1, 2))
    pictures = [
        np.stack([np.asarray(p.picture) for p in d.pieces if not isinstance(p, str)]) for d in (one, same, other)
    ]
    assert pictures[0].shape == (2, 64, 64, 3)
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert drawn(one)[0].wish == Wish.of(SCENE)


# What evaluation asks


def requests(rng: random.Random) -> list[Request]:
    surprises = [ask_for_surprise(rng, choice) for choice in CHOICES]
    counted = [ask(rng, n) for ask in (ask_for_several, ask_for_steps, ask_for_story) for n in (2, 3, 4)]
    return [
        ask_for_scene(rng),
        ask_for_scene(rng, 3, held_out=True),
        ask_for_scene(rng, full=True),
        *surprises,
        *counted,
    ]


def test_the_truth_of_a_request_agrees_with_its_wishes() -> None:
    rng = random.Random(3)
    for _ in range(30):
        for request in requests(rng):
            assert all(w.agrees(s) for w, s in zip(request.wishes, request.scenes, strict=False))


def test_requests_have_as_many_wishes_as_pictures_are_asked_for() -> None:
    rng = random.Random(4)
    for ask in (ask_for_several, ask_for_steps, ask_for_story):
        assert [len(ask(rng, count).wishes) for count in (2, 3, 4)] == [2, 3, 4]


@pytest.mark.parametrize("topic", TOPICS)
def test_there_are_questions_of_every_topic_about_seen_and_held_out_scenes(topic: str) -> None:
    rng = random.Random(5)
    for held_out in (False, True):
        asked = sample_question(rng, topic, held_out=held_out)
        assert asked.topic == topic
        assert trainable(asked.scene.shapes) != held_out
        assert asked.answered_by(f" {asked.answer.upper()} ".replace(".", ""))


def test_no_question_has_two_answers() -> None:
    rng = random.Random(6)
    for _ in range(200):
        scene = sample_scene(rng)
        answers: dict[str, str] = {}
        for asked in (asked for topic in TOPICS for asked in questions_about(scene, topic)):
            assert answers.setdefault(asked.text, asked.answer) == asked.answer


def test_answers_about_a_known_scene_are_right() -> None:
    found = {asked.text: asked.answer for topic in TOPICS for asked in questions_about(SCENE, topic)}
    circle, star = map(name, SCENE.shapes)
    assert found["What color is the circle?"] == "The circle is red."
    assert found["What is at the bottom?"] == "A huge blue star."
    assert found["Where is the circle?"] == "It is at the top."
    assert found["How big is the star?"] == "It is huge."
    assert found["How many shapes are there?"] == "There are two shapes."
    assert found["What is the background?"] == "The background is white."
    assert found[f"Is the {circle} above the {star}?"] == "Yes."
    assert found[f"Is the {circle} bigger than the {star}?"] == "No."
    assert found[f"What is above the {star}?"] == "The red circle."
    assert f"What is above the {circle}?" not in found


def test_another_answer_is_wrong() -> None:
    asked = questions_about(SCENE, "count")[0]
    assert not asked.answered_by("There is one shape.")
    assert not asked.answered_by(f"{asked.answer} {asked.answer}")


def test_about_half_of_the_yes_or_no_questions_have_yes_for_an_answer() -> None:
    rng = random.Random(8)
    answers = [sample_question(rng, "relation").answer for _ in range(600)]
    assert 0.42 < answers.count("Yes.") / (answers.count("Yes.") + answers.count("No.")) < 0.58
    assert question(rng).answer
