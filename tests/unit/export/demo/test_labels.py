"""What the auxiliary heads are taught is what the truth says."""

import json

import numpy as np
import pytest

from edge.demo.world import Truth, draw_scene, truth
from edge.demo.world.place import places
from edge.demo.world.vocabulary import COLOURS, KINDS, held_out
from export.demo.crowd import crowd
from export.demo.labels import (
    BEGUN,
    BOX_CLASSES,
    BOX_STEP,
    CELL_CLASSES,
    CELL_WIDTH,
    FINE,
    FPS,
    NONE,
    PAIR_CLASSES,
    SIGHTS,
    WAYS,
    cell_labels,
    pair_labels,
    pair_time,
)
from export.demo.lessons import lessons
from export.demo.taught import at_pairs

PAIRS = 32


@pytest.fixture(scope="module")
def clips() -> list[Truth]:
    return [truth(draw_scene(seed, "a", seconds=2 * PAIRS / FPS, fps=FPS)) for seed in range(44)]


def test_cells_are_named_as_the_world_names_them(clips: list[Truth]) -> None:
    ways = set()
    for true in clips:
        labels = cell_labels(true.scene, range(PAIRS))
        assert labels.shape == (PAIRS * 12, CELL_WIDTH)
        wanted = np.concatenate([true.cells(2 * pair + 1).reshape(-1, 2) for pair in range(PAIRS)])
        np.testing.assert_array_equal(labels[:, :2], wanted)
        classes = labels[:, : len(CELL_CLASSES)]
        assert (classes < CELL_CLASSES).all()
        assert ((classes > 0).all(1) == (classes > 0).any(1)).all()
        taken = classes[:, 0] > 0
        fine, box = np.split(labels[:, len(CELL_CLASSES) :], [FINE**2], axis=1)
        assert (fine[taken].sum(1) > 0).all()  # some part of a taken cell is taken
        assert not box[~taken].any()
        assert (box < BOX_CLASSES).all()
        assert (box[taken, :2] < box[taken, 2:]).all()
        ways |= set(classes[taken, 2].tolist())
    assert ways == set(range(1, 1 + len(WAYS)))


def test_what_stands_is_still_however_the_camera_shakes(clips: list[Truth]) -> None:
    still = [true for true in clips if true.scene.shake and not true.events]
    assert still
    for true in still:
        labels = cell_labels(true.scene, range(PAIRS))
        assert set(labels[labels[:, 0] > 0, 2].tolist()) <= {1 + WAYS.index("still")}


def clock(pair: np.int64) -> str:
    return f"{pair_time(int(pair)):.1f}"


def test_a_pair_tells_the_event_that_began_last(clips: list[Truth]) -> None:
    times = [pair_time(pair) for pair in range(PAIRS)]
    for true in clips:
        told = at_pairs(true, range(PAIRS))
        labels = pair_labels(told, range(PAIRS))
        assert (labels < PAIR_CLASSES).all()
        assert labels[:, 0].tolist() == list(range(PAIRS))
        for time, row in zip(times, labels, strict=True):
            number, _, kind, colour, _ = row[BEGUN]
            begun = [event for event in told.events if event.start_s <= round(time, 1)]
            assert number == len(begun)
            ended = [event for event in told.events if event.end_s <= round(time, 1)]
            if ended:
                assert clock(row[13]) == f"{max(event.end_s for event in ended):.1f}"
            if begun:
                assert clock(row[12]) == f"{begun[-1].start_s:.1f}"
                sprite = true.scene.sprites[begun[-1].sprite]
                assert (KINDS[kind - 1], COLOURS[colour - 1]) == (sprite.kind, sprite.colour)
        assert labels[-1, BEGUN.start] == len(told.events)


def test_the_last_pair_tells_the_boxes_of_the_answer(clips: list[Truth]) -> None:
    boxes = 0
    for true in clips:
        sights = pair_labels(true, [PAIRS - 1])[0, -6 * SIGHTS :].reshape(SIGHTS, 6)
        (where,) = (
            each
            for each in lessons(true, np.random.default_rng(1), count=4, full=0.0)
            if "objects" in each.answer
        )
        objects = json.loads(where.answer)["objects"]
        for (kind, colour, *sides), told in zip(sights, objects, strict=False):
            assert f"{COLOURS[colour - 1]} {KINDS[kind - 1]}" == told["label"]
            assert [BOX_STEP * side for side in sides] == told["bbox_2d"]
            boxes += 1
        absent = sights[len(objects) :]
        assert not absent[:, :2].any()
        assert (absent[:, 2:] == NONE).all()
    assert boxes >= 20


def test_times_move_to_their_pair_and_no_farther(clips: list[Truth]) -> None:
    stamps = {round(pair_time(pair), 1) for pair in range(PAIRS)}
    for true in clips:
        told = at_pairs(true, range(PAIRS))
        assert [event.start_s for event in told.events] == sorted(event.start_s for event in told.events)
        pairs = [sorted(each.events, key=lambda one: (one.what, one.start_s)) for each in (true, told)]
        for before, after in zip(*pairs, strict=True):
            assert before.what == after.what
            assert {after.start_s, after.end_s} <= stamps
            assert abs(before.start_s - after.start_s) <= 0.2
            assert abs(before.end_s - after.end_s) <= 0.2
            assert f"{after.start_s:.1f} s" in told.summary


def test_a_crowd_is_another_in_every_pair_and_holds_nothing_that_is_held_out() -> None:
    sizes = []
    for seed in range(30):
        scene = crowd(seed, "a", 4, fps=FPS)
        there = ~np.isnan(places(scene).boxes[..., 0])
        assert (there.sum(1) == 2).all()  # one pair each
        assert (there[:, ::2] == there[:, 1::2]).all()
        sizes += there[:, ::2].sum(0).tolist()
        assert not any(held_out(each.kind, each.colour, each.motion) for each in scene.sprites)
        assert crowd(seed, "a", 4, fps=FPS) == scene
    assert min(sizes) == 0
    assert np.mean(sizes) > 2
