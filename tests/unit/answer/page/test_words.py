"""Times and places as people write them."""

from __future__ import annotations

import pytest

from edge.answer.page.view import moments
from edge.answer.page.words import clock, place, plural, span
from edge.messages import Box, Event
from tests.page_material import answer, view


@pytest.mark.parametrize(
    ("at_s", "exact", "shown"),
    [
        (0, False, "0:00"),
        (59.94, False, "0:59"),
        (59.96, False, "1:00"),
        (7.25, True, "0:07.2"),
        (600, True, "10:00"),
    ],
)
def test_a_moment_is_minutes_and_seconds(at_s: float, exact: bool, shown: str) -> None:
    assert clock(at_s, exact=exact) == shown


def test_a_short_span_is_told_to_the_tenth_and_a_moment_once() -> None:
    assert span(3.25, 12.9) == "0:03.2 \N{EN DASH} 0:12.9"
    assert span(3.25, 30) == "0:03 \N{EN DASH} 0:30"
    assert span(3.25, 3.25) == "0:03.2"


@pytest.mark.parametrize(
    ("box", "shown"),
    [((0, 0, 0.2, 0.2), "upper left"), ((0.4, 0.4, 0.6, 0.6), "middle"), ((0.9, 0.4, 1, 0.6), "right"),
     ((0.4, 0.9, 0.6, 1), "lower"), ((1, 1, 1, 1), "lower right")],
)  # fmt: skip
def test_a_place_is_told_in_words(box: tuple[float, float, float, float], shown: str) -> None:
    x1, y1, x2, y2 = box
    assert place(Box(x1=x1, y1=y1, x2=x2, y2=y2)) == shown


def test_numbers_agree_with_their_nouns() -> None:
    assert (plural(1, "pair"), plural(0, "pair"), plural(1200, "pair")) == (
        "1 pair",
        "0 pairs",
        "1,200 pairs",
    )


def test_a_possible_event_is_worth_a_picture_of_its_middle_and_once() -> None:
    events = [Event(what="x", start=a, end=b, valid=a <= b) for a, b in ((20, 30), (4, 8), (5, 7), (9, 2))]
    assert moments(view("x", answer("summary", "x", events=tuple(events))).report) == [6.0, 25.0]
