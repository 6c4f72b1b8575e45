"""What boxes say of each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer import places
from edge.answer.places import Corners
from edge.messages import BoxProblem

BEFORE: list[tuple[str, Corners]] = [("car", (100, 100, 300, 300)), ("dog", (0, 0, 10, 10))]


@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [
        ((400, 400, 500, 500), "car", ""),
        ((0, 0, 1000, 1000), "car", ""),
        ((0, 0, 1001, 1000), "car", "out_of_range"),
        ((5000, 400, 100, 500), "car", "out_of_range"),
        ((500, 400, 500, 500), "car", "degenerate"),
        ((400, 500, 500, 400), "car", "degenerate"),
        ((100, 100, 300, 300), "van", "duplicate"),  # the same box is the same thing, whatever it is called
        ((101, 100, 300, 301), "car", "duplicate"),
        ((101, 100, 300, 301), "van", ""),
        ((100, 100, 300, 400), "car", ""),
    ],
)
def test_a_box_that_cannot_be_is_named(box: Corners, label: str, expected: BoxProblem) -> None:
    assert places.problem(box, label, BEFORE) == expected


def test_the_nearest_stands_lowest_and_of_two_the_larger() -> None:
    assert places.nearest([(0, 0, 900, 500), (0, 800, 50, 900)]) == 1
    assert places.nearest([(0, 0, 50, 900), (0, 800, 50, 900)]) == 0
    assert places.nearest([]) is None


def test_room_is_the_largest_rectangle_that_touches_nothing() -> None:
    assert places.free([]) == (0, 0, 1000, 1000)
    assert places.free([(0, 0, 400, 1000)]) == (400, 0, 1000, 1000)
    assert places.free([(300, 100, 500, 400)]) == (0, 400, 1000, 1000)
    assert places.free([(0, 0, 1000, 1000)]) is None


edge = st.integers(0, 40).map(lambda number: 20 * number)
length = st.integers(1, 10).map(lambda number: 20 * number)
boxes = st.lists(
    st.builds(lambda x, y, width, height: (x, y, x + width, y + height), edge, edge, length, length),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(boxes)
def test_no_larger_rectangle_is_free(taken: list[Corners]) -> None:
    found = places.free(taken)

    def touches(box: Corners) -> bool:
        return any(places.overlap(box, other) > 0 for other in taken)

    if found is not None:
        assert not touches(found)
    area = 0 if found is None else (found[2] - found[0]) * (found[3] - found[1])
    columns = sorted({0, 1000, *(line for box in taken for line in (box[0], box[2]))})
    rows = sorted({0, 1000, *(line for box in taken for line in (box[1], box[3]))})
    for left in columns:
        for right in (line for line in columns if line > left):
            for top in rows:
                for bottom in (line for line in rows if line > top):
                    if (right - left) * (bottom - top) > area:
                        assert touches((left, top, right, bottom))
