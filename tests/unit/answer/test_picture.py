"""A picture with boxes on it: what is drawn, and that a label can be nothing but a label."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from edge.answer.marks import COLOURS
from edge.answer.picture import DRAWN_PX, annotated, jpeg
from edge.messages import Relation
from tests.page_material import HOSTILE, picture, seen

GREY = np.full((600, 800, 3), 128, np.uint8)


def opened(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_box_is_drawn_where_the_answer_says_and_nowhere_else() -> None:
    drawn = opened(annotated(GREY, [seen("dog", 0.25, 0.5, 0.75, 0.75)]))
    assert drawn.shape == (600, 800, 3)
    colour = ImageColor.getrgb(COLOURS[0])
    assert tuple(drawn[449, 400]) == colour  # the lower edge
    assert tuple(drawn[375, 200]) == colour  # the left edge
    assert (drawn[320:440, 210:590] == 128).all()  # inside
    assert (drawn[460:, :] == 128).all()  # outside
    assert (drawn[270:298, 200:240] != 128).any()  # its name, above it


def test_the_given_picture_stays_as_it_is() -> None:
    before = GREY.copy()
    annotated(GREY, [seen("dog", 0.2, 0.2, 0.6, 0.6)])
    assert (before == GREY).all()


def test_an_impossible_box_is_not_drawn_and_nothing_at_all_leaves_the_picture() -> None:
    assert (opened(annotated(GREY, [seen("dog", 0.5, 0.5, 0.5, 0.5, valid=False)])) == 128).all()
    assert (opened(annotated(GREY, [])) == 128).all()


def test_a_relation_between_two_boxes_is_a_line_between_them() -> None:
    objects = [seen("dog", 0.1, 0.4, 0.2, 0.6), seen("tree", 0.8, 0.4, 0.9, 0.6)]
    relation = Relation(subject="dog", relation="left of", object="tree")
    without, drawn = (opened(annotated(GREY, objects, made)) for made in ((), (relation,)))
    assert (without[300, 400] == 128).all()
    assert (drawn[300, 300] == 255).all()
    assert (drawn[290:310, 380:420] == (16, 18, 20)).all(axis=-1).any()  # the relation's word, on its ground


@pytest.mark.parametrize(("width", "height"), [(256, 192), (16, 200), (640, 480), (1, 1)])
def test_a_small_picture_is_enlarged_so_that_its_labels_can_be_read(width: int, height: int) -> None:
    drawn = opened(annotated(picture(width, height), [seen("dog", 0.1, 0.1, 0.6, 0.6)]))
    assert max(drawn.shape) == DRAWN_PX
    assert drawn.shape[1] / drawn.shape[0] == pytest.approx(width / height, rel=0.02)


@pytest.mark.parametrize("label", [*HOSTILE, "/etc/passwd", "file:///etc/passwd", "", "%s %n {0}"])
def test_any_label_is_drawn_as_one_line(label: str) -> None:
    shown = opened(annotated(GREY, [seen(label, 0.3, 0.5, 0.9, 0.9)]))
    assert (shown[:250] == 128).all()  # not higher than a line above its box
    assert (shown[560:] == 128).all()


@settings(deadline=None, max_examples=30)
@given(
    st.text(max_size=60),
    st.tuples(*[st.integers(0, 1000)] * 4).filter(lambda box: box[0] < box[2] and box[1] < box[3]),
)
def test_any_box_and_label_can_be_drawn(label: str, box: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = (value / 1000 for value in box)
    assert annotated(GREY[:200, :300], [seen(label, x1, y1, x2, y2)], form="jpeg")[:2] == b"\xff\xd8"


@pytest.mark.parametrize("limit", [60_000, 9_000, 1_500])
def test_a_jpeg_keeps_within_its_bytes(limit: int) -> None:
    assert len(jpeg(picture(320, 240), max_bytes=limit)) <= limit
    assert len(annotated(picture(320, 240), [seen("a", 0, 0, 1, 1)], form="jpeg", max_bytes=limit)) <= limit


def test_a_picture_is_scaled_down_and_never_up() -> None:
    assert opened(jpeg(picture(320, 240), longest_px=160)).shape == (120, 160, 3)
    assert opened(jpeg(picture(32, 24), longest_px=160)).shape == (24, 32, 3)
