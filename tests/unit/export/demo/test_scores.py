"""Scores of hand-made answers, and what must hold of any."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.demo import scores
from export.demo.scores import Said, Seen, Tally

ENTERS = Said("a red car enters from the left", 2.0, 3.0)
STOPS = Said("a red car stops", 5.0, 5.0)
LEAVES = Said("a blue dog slowly leaves to the right", 9.0, 10.0)
TRUE = (ENTERS, STOPS, LEAVES)


def said(event: Said, **change: object) -> Said:
    fields = {"what": event.what, "start_s": event.start_s, "end_s": event.end_s} | change
    return Said(**fields)  # type: ignore[arg-type]


def test_an_event_is_read_as_sprite_verb_and_the_rest() -> None:
    assert (ENTERS.colour, ENTERS.kind, ENTERS.verb) == ("red", "car", "enters")
    assert (LEAVES.kind, LEAVES.verb) == ("dog", "leaves")
    assert Said("The green square.", 0, 0).verb == ""
    assert Said("something moves", 0, 0).kind == ""


def test_all_right_is_one_everywhere() -> None:
    assert scores.events(TRUE, TRUE) == {
        "event_precision": (3, 3),
        "event_recall": (3, 3),
        "event_f1": (6, 6),
        "attributes": (6, 6),
        "order": (3, 3),
    }


@pytest.mark.parametrize(
    ("told", "right"),
    [
        (said(ENTERS, start_s=2.5), 1),  # half a second off is right
        (said(ENTERS, start_s=2.6), 0),
        (said(ENTERS, end_s=3.6), 0),
        (said(ENTERS, what="a blue car enters from the left"), 0),
        (said(ENTERS, what="a red dog enters from the left"), 0),
        (said(ENTERS, what="a red car leaves to the left"), 0),
        (said(ENTERS, what="a red car enters from the right"), 1),  # an attribute, not another event
        (said(ENTERS, what="The red car enters from the left."), 1),
    ],
)
def test_an_event_is_right_by_sprite_verb_and_time(told: Said, right: int) -> None:
    assert scores.events((ENTERS,), (told,))["event_f1"] == (2 * right, 2)


def test_saying_it_twice_is_wrong_once() -> None:
    tally = scores.events((ENTERS,), (ENTERS, ENTERS))
    assert (tally["event_precision"], tally["event_recall"]) == ((1, 2), (1, 1))


def test_attributes_are_marked_where_the_event_is_alike() -> None:
    told = (said(ENTERS, what="a blue car enters from the right"), STOPS)
    assert scores.events((ENTERS, STOPS), told)["attributes"] == (2, 4)


def test_order_is_that_in_which_they_are_told() -> None:
    assert scores.events(TRUE, (STOPS, ENTERS, LEAVES))["order"] == (2, 3)


def test_a_match_gives_up_its_place_where_another_fits_too() -> None:
    # 1 fits 1.4 and 0.8; 1.8 fits only 1.4: taking the first that fits would lose one.
    true = (said(STOPS, start_s=1.0, end_s=1.0), said(STOPS, start_s=1.8, end_s=1.8))
    told = (said(STOPS, start_s=1.4, end_s=1.4), said(STOPS, start_s=0.8, end_s=0.8))
    assert scores.events(true, told)["event_recall"] == (2, 2)


def test_only_a_clip_without_events_can_be_a_story() -> None:
    assert scores.events((), ())["stories"] == (0, 1)
    assert scores.events((), (STOPS,))["stories"] == (1, 1)
    assert "stories" not in scores.events(TRUE, ())


def test_a_box_is_right_by_half_its_union() -> None:
    true = Seen("red car", (0, 0, 100, 100))
    third = Seen("red car", (50, 0, 150, 100))
    assert scores.overlap(true, third) == pytest.approx(1 / 3)
    assert scores.overlap(true, Seen("", (0, 50, 100, 100))) == 0.5
    assert scores.overlap(true, Seen("", (100, 0, 0, 100))) == 0
    assert scores.boxes((true,), (third,)) == {"objects_f1": (2, 2), "boxes": (0, 1)}
    assert scores.boxes((true,), (Seen("blue car", true.box),)) == {"objects_f1": (0, 2), "boxes": (0, 1)}


def test_a_relation_may_be_told_from_either_side() -> None:
    true = [("dog", "left of", "car"), ("dog", "above", "car"), ("dog", "next to", "car")]
    told = [("car", "right of", "dog"), ("car", "above", "dog"), ("car", "next to", "dog")]
    assert scores.relations(true, told) == {"relations": (4, 6)}


def test_a_group_that_is_neither_there_nor_listed_is_no_merit() -> None:
    assert scores.counts({"people": 2, "animals": 0}, {"people": 2}) == {"counts": (1, 1)}
    assert scores.counts({"people": 2}, {"people": 1, "animals": 1}) == {"counts": (0, 2)}


def test_a_time_may_be_half_a_second_off() -> None:
    assert scores.question("time", "At 2.0 s.", "At 2.5 s.") == {"question_time": (1, 1)}
    assert scores.question("time", "At 2.0 s.", "At 2.6 s.") == {"question_time": (0, 1)}
    assert scores.question("time", "At 2.0 s.", "Never.") == {"question_time": (0, 1)}
    assert scores.question("watch", "Yes.", "yes.") == {"question_watch": (1, 1)}


def test_a_score_is_a_ratio_of_sums_with_its_interval() -> None:
    tallies: list[Tally] = [{"a": (1, 2), "b": (1, 1)}, {"a": (3, 3)}, {"c": (0, 0)}]
    found = scores.score(tallies)
    assert found["a"].value == 4 / 5
    assert 0.5 <= found["a"].low < found["a"].value < found["a"].high <= 1
    assert (found["b"].low, found["b"].high, found["b"].of) == (1, 1, 1)
    assert math.isnan(found["c"].value)


def test_what_is_lost_is_told_of_the_same_clips() -> None:
    # Hard and easy clips in turn: each score by itself strays widely, the difference does not.
    before: list[Tally] = [{"a": (9, 10)} if number % 2 else {"a": (1, 10)} for number in range(40)]
    after: list[Tally] = [{"a": (each["a"][0] - 1, 10)} for each in before]
    found = scores.lost(before, after, "a")
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)
    assert scores.score(before)["a"].high - scores.score(before)["a"].low > 0.2
    assert scores.lost(after, before, "a").value == pytest.approx(-0.1)


TIMES = st.floats(0, 16).map(lambda value: round(value, 1))
EVENTS = st.lists(
    st.builds(
        Said,
        st.sampled_from(["a red car enters from the left", "a red car stops", "a blue dog stops", "words"]),
        TIMES,
        TIMES,
    ),
    max_size=6,
).map(tuple)


@settings(deadline=None)
@given(EVENTS, EVENTS)
def test_no_score_passes_one_and_precision_mirrors_recall(
    true: tuple[Said, ...], told: tuple[Said, ...]
) -> None:
    forth, back = scores.events(true, told), scores.events(told, true)
    assert all(0 <= right <= of for right, of in forth.values())
    assert forth["event_precision"] == back["event_recall"]
    assert forth["event_f1"] == back["event_f1"]


@settings(deadline=None)
@given(EVENTS)
def test_the_truth_itself_is_all_right(true: tuple[Said, ...]) -> None:
    tally = scores.events(true, true)
    right, of = tally["event_f1"]
    assert right == of == 2 * len(true)
