"""What the model inside the package gets right of clips that it has never seen: a part of the examination on its card.

The whole one is a command, see edge/demo/MODEL.md.
"""

from __future__ import annotations

import pytest

from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.share import demo_bundle
from export.demo.evaluate import Results, examine
from export.demo.scores import score

pytestmark = pytest.mark.timeout(
    1_200
)  # all of the examination is one fixture: 265 s on a free machine, and not every one is

CLIPS = 120
CHECKS = 5
LEAST = {
    "event_f1": 0.95,
    "attributes": 0.99,
    "counts": 0.93,
    "objects_f1": 0.95,
    "boxes": 0.92,
    "relations": 0.92,
    "question_count": 0.93,
    "question_watch": 0.84,
}
"""Shares that these clips must reach; below the card's by what chance may do to so few."""


@pytest.fixture(scope="module")
def found() -> Results:
    with Engine(open_bundle(demo_bundle())) as engine:
        return examine(engine, "b", clips=CLIPS, checks=CHECKS)


def test_the_clips_are_of_all_lengths_and_a_minute_is_among_them(found: Results) -> None:
    assert found.lengths.total() == CLIPS
    assert found.lengths["60"] == CLIPS // 10
    assert len(found.lengths) >= 6


@pytest.mark.parametrize("name", LEAST)
def test_it_is_right(found: Results, name: str) -> None:
    scored = score(found.tallies)[name]
    assert scored.of >= 10
    assert scored.value >= LEAST[name]


def test_it_tells_no_stories_about_empty_clips(found: Results) -> None:
    stories = score(found.tallies)["stories"]
    assert stories.of >= 3
    assert stories.value == 0


def test_falsified_clips_are_not_told_as_the_true_ones(found: Results) -> None:
    for way, tallies in found.falsified.items():
        assert len(tallies) == CHECKS
        assert score(tallies)["event_f1"].value < 0.5, way


def test_streamed_and_at_once_say_the_same(found: Results) -> None:
    assert found.differing == (0, CHECKS)
