"""How things stand to each other: what the model said is held against the boxes, the rest is worked out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edge.answer import places, relations
from edge.answer.places import Corners
from edge.demo.world import draw_scene, truth
from edge.demo.world.sight import SHOWN
from edge.messages import MAX_RELATIONS, Box, Relation, SeenObject
from edge.records import Size

WIDE = Size(100, 200)


def seen(label: str, box: Corners, *, valid: bool = True, sure: float | None = 0.5) -> SeenObject:
    x1, y1, x2, y2 = (side / 1000 for side in box)
    return SeenObject(
        label=label,
        box=Box(x1=x1, y1=y1, x2=x2, y2=y2),
        valid=valid,
        problem="" if valid else "degenerate",
        written=box,
        confidence=None,
        box_confidence=sure,
    )


CAR = seen("car", (100, 400, 300, 600))
DOG = seen("dog", (320, 420, 400, 560), sure=0.25)  # 4 pixels of 100 to the car's right
MAN = seen("man", (800, 100, 900, 500), sure=None)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((100, 400, 300, 600), (400, 400, 500, 600), ("left of",)),
        ((400, 400, 500, 600), (100, 400, 300, 600), ("right of",)),
        ((400, 100, 500, 300), (400, 400, 500, 600), ("above",)),
        ((400, 400, 500, 600), (400, 100, 500, 300), ("below",)),
        ((100, 400, 300, 600), (320, 400, 500, 600), ("left of", "next to")),
        ((100, 400, 300, 600), (290, 400, 500, 600), ("left of", "next to")),  # boxes are that coarse
        ((100, 400, 300, 600), (150, 430, 250, 580), ("above",)),  # one in front of the other
        # 60 of 1000 are 12 pixels across and 6 down: the picture is twice as wide as high.
        ((100, 100, 200, 200), (260, 265, 400, 400), ("left of",)),
        ((100, 100, 200, 200), (210, 245, 400, 400), ("above", "next to")),
    ],
)
def test_one_box_stands_to_another_as_the_picture_shows(
    one: Corners, other: Corners, expected: tuple[str, ...]
) -> None:
    assert places.standing(one, other, WIDE) == expected


def test_the_words_that_boxes_show_are_those_that_are_worked_out() -> None:
    rng = np.random.default_rng(0)
    words = set()
    for _ in range(400):
        corners = [
            np.sort(rng.choice(1001, (2, 2), replace=False), axis=0).ravel().tolist() for _ in range(2)
        ]
        one, other = ((x1, y1, x2, y2) for x1, y1, x2, y2 in corners)
        words |= set(places.standing(one, other, WIDE))
    assert words == places.SHOWN == SHOWN


def test_what_is_worked_out_is_what_is_true_of_the_drawn_world() -> None:
    """The world works it out from the pixels of its sprites, by other code; boxes are rounded to thousandths."""
    agree = of = 0
    for seed in range(400):
        true = truth(draw_scene(seed, "b"))
        for tick in (0, true.scene.ticks // 2, -1):
            objects = [seen(each.label, each.box) for each in true.sights(tick)]
            wanted = {(each.subject, each.relation, each.object) for each in true.relations(tick)}
            found = relations.worked_out(objects, [], true.scene.size)
            told = {(each.subject, each.relation, each.object) for each in found}
            agree += told == wanted
            of += bool(wanted)
            assert {each for each in told ^ wanted if each[1] != "next to"} == set()
    assert of > 70
    assert agree >= 1195  # a gap may be rounded over the limit


def test_the_closest_come_first_and_no_more_than_an_answer_may_hold() -> None:
    row = [seen(str(at), (90 * at, 0, 90 * at + 10, 10)) for at in range(8)]
    found = relations.worked_out([MAN, *row], [], WIDE)
    assert len(found) == MAX_RELATIONS
    assert {each.relation for each in found[:7]} == {"left of"}
    assert all(int(each.object) - int(each.subject) == 1 for each in found[:7])
    said = Relation(subject="0", relation="pulls", object="1")
    assert len(relations.worked_out(row, [said], WIDE)) == MAX_RELATIONS - 1


def test_who_stands_how_is_as_sure_as_the_less_certain_box() -> None:
    near, *_, far = relations.worked_out([CAR, DOG, MAN], [], WIDE)
    assert (near.subject, near.relation, near.object, near.source) == ("car", "left of", "dog", "boxes")
    assert near.valid
    assert near.confidence == 0.25
    assert "man" in (far.subject, far.object)
    assert far.confidence is None


def test_what_has_no_valid_box_stands_nowhere() -> None:
    broken = seen("dog", (320, 420, 320, 560), valid=False)
    assert {each.object for each in relations.worked_out([CAR, broken, MAN], [], WIDE)} == {"man"}
    assert relations.worked_out([CAR], [], WIDE) == []


@pytest.mark.parametrize("valid", [True, False])
def test_of_whom_the_model_said_something_that_holds_nothing_more_is_worked_out(valid: bool) -> None:
    said = Relation(subject="dog", relation="chases", object="car", valid=valid)
    pairs = {
        frozenset((each.subject, each.object)) for each in relations.worked_out([CAR, DOG, MAN], [said], WIDE)
    }
    assert (frozenset(("car", "dog")) in pairs) is not valid
    assert frozenset(("car", "man")) in pairs


@pytest.mark.parametrize(
    ("subject", "word", "other", "expected"),
    [
        ("car", "left of", "dog", True),
        ("dog", "right of", "car", True),
        ("car", "next to", "dog", True),
        ("car", "right of", "dog", False),
        ("car", "next to", "man", False),
        ("car", "carrying", "dog", True),  # no box tells
        ("car", "carrying", "cat", False),
        ("car", "left of", "car", False),
        ("car", "carrying", "car", False),
    ],
)
def test_what_the_model_said_holds_where_the_boxes_show_nothing_else(
    subject: str, word: str, other: str, expected: bool
) -> None:
    assert relations.holds(subject, word, other, [CAR, DOG, MAN], WIDE) is expected


def test_of_several_under_one_label_it_is_enough_that_two_stand_so() -> None:
    second = seen("car", (700, 400, 900, 600))
    for word, other in product(("left of", "right of"), ("dog", "car")):
        assert relations.holds("car", word, other, [CAR, DOG, second], WIDE)
    assert not relations.holds("car", "above", "dog", [CAR, DOG, second], WIDE)


def test_a_box_that_cannot_be_proves_nothing() -> None:
    broken = seen("dog", (320, 420, 320, 560), valid=False)
    assert relations.holds("car", "right of", "dog", [CAR, broken], WIDE)
