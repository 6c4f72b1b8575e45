"""Which objects and relations can be drawn."""

from edge.answer.marks import arrow, centre, marks
from edge.messages import Relation
from tests.page_material import seen

FOUND = marks(
    [
        seen("dog", 0.1, 0.1, 0.3, 0.5),
        seen("tree", 0.5, 0.1, 0.6, 0.8),
        seen("bird", 0.7, 0.1, 0.8, 0.2),
        seen("bird", 0.8, 0.1, 0.9, 0.2),
        seen("sky", 0.5, 0.5, 0.5, 0.5, valid=False),
    ]
)


def test_numbers_follow_the_answer_and_an_impossible_box_is_named_but_not_drawn() -> None:
    assert [(mark.number, mark.label, mark.drawn) for mark in FOUND] == [
        (1, "dog", True), (2, "tree", True), (3, "bird", True), (4, "bird", True), (5, "sky", False),
    ]  # fmt: skip
    assert len({mark.colour for mark in FOUND}) == len(FOUND)


def test_a_relation_is_drawn_only_where_both_names_mean_one_box() -> None:
    made = arrow(Relation(subject="Dog", relation="left of", object="tree"), FOUND)
    assert made is not None
    assert (made.subject.number, made.object.number) == (1, 2)
    for subject, target in (("dog", "bird"), ("dog", "sky"), ("dog", "cat"), ("dog", "dog")):
        assert arrow(Relation(subject=subject, relation="near", object=target), FOUND) is None


def test_the_middle_of_a_box() -> None:
    assert centre(FOUND[0].box) == (0.2, 0.3)
