"""What is drawn: the same by seed, all kinds of events, nothing held out in training, at any length and size."""

import hashlib
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.demo.world import EventKind, Scene, Stage, Truth, draw_scene, frames, render, truth
from edge.demo.world.ground import GROUNDS
from edge.demo.world.vocabulary import COLOURS, KINDS, MOTIONS, held_out
from edge.messages import MAX_EVENTS
from edge.records import Size

STAGES: tuple[Stage, ...] = ("a", "b", "c")
ORDINARY: set[EventKind] = {"enter", "leave", "move", "start", "stop"}
RARE: set[EventKind] = {"flash", "hide", "reappear", "cross", "pick up", "put down"}

stages = st.sampled_from(STAGES)
CLIPS = 120

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def many() -> dict[Stage, list[Truth]]:
    return {stage: [truth(draw_scene(seed, stage)) for seed in range(CLIPS)] for stage in STAGES}


def fingerprint(scene: Scene) -> str:
    """Hash the truth and a few pictures."""
    true = truth(scene)
    digest = hashlib.sha256(repr((true.events, true.headline, true.summary)).encode())
    for tick in (0, scene.ticks // 2, scene.ticks - 1):
        digest.update(repr((true.sights(tick), true.relations(tick))).encode())
        digest.update(render(scene, tick).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("seed", "stage", "expected"),
    [(1, "a", "efc4dc7f9ac833f1"), (2, "b", "9b2fcbc75b40dc56"), (13, "c", "cf1aa6b706718f56")],
)
def test_a_seed_means_the_same_pictures_and_truth_everywhere(seed: int, stage: Stage, expected: str) -> None:
    assert fingerprint(draw_scene(seed, stage)) == expected


@settings(deadline=None, max_examples=30)
@given(seeds, stages, st.floats(0.5, 60), st.sampled_from([Size(64, 64), Size(96, 128), Size(192, 256)]))
def test_any_seed_length_and_size_makes_a_scene(seed: int, stage: Stage, seconds: float, size: Size) -> None:
    scene = draw_scene(seed, stage, seconds=seconds, size=size)
    assert scene == draw_scene(seed, stage, seconds=seconds, size=size)
    assert (scene.seconds, scene.size, scene.ticks) == (seconds, size, max(1, round(seconds * 8)))
    picture = render(scene, scene.ticks - 1)
    assert picture.shape == (size.height, size.width, 3)
    assert picture.dtype == np.uint8
    assert len({sprite.label for sprite in scene.sprites}) == len(scene.sprites)


def test_pictures_in_a_row_are_the_pictures_one_by_one() -> None:
    scene = draw_scene(5, "a", seconds=2.0)
    assert [picture.tobytes() for picture in frames(scene)] == [
        render(scene, tick).tobytes() for tick in range(scene.ticks)
    ]


def test_the_stages_show_what_they_promise(many: dict[Stage, list[Truth]]) -> None:
    kinds = {
        stage: Counter(event.kind for true in truths for event in true.events)
        for stage, truths in many.items()
    }
    assert set(kinds["a"]) == set(kinds["b"]) == ORDINARY
    assert set(kinds["c"]) == ORDINARY | RARE
    assert all(count >= 5 for by_kind in kinds.values() for count in by_kind.values())
    assert {len(true.scene.sprites) for true in many["a"]} == {0, 1, 2}
    assert max(len(true.scene.sprites) for true in many["c"]) >= 4
    assert {true.scene.seconds for true in many["a"]} <= {4.0, 6.0, 8.0, 10.0, 12.0, 16.0}
    assert {true.scene.ticks for true in many["b"] + many["c"]} == {480}


def test_everything_occurs_in_training(many: dict[Stage, list[Truth]]) -> None:
    scenes = [true.scene for truths in many.values() for true in truths]
    sprites = [sprite for scene in scenes for sprite in scene.sprites]
    assert {sprite.kind for sprite in sprites} == set(KINDS)
    assert {sprite.colour for sprite in sprites} == set(COLOURS)
    assert {sprite.motion for sprite in sprites} == set(MOTIONS)
    assert {scene.background for scene in scenes} == set(GROUNDS)


def test_in_every_stage_there_are_clips_in_which_nothing_happens(many: dict[Stage, list[Truth]]) -> None:
    for truths in many.values():
        quiet = [true for true in truths if not true.events]
        assert 0.05 < len(quiet) / len(truths) < 0.3
        assert all("Nothing happens" in true.headline for true in quiet)
        assert {bool(true.scene.sprites) for true in quiet} == {
            True,
            False,
        }  # with things that stand, and empty


def test_no_scene_has_more_events_than_an_answer_holds(many: dict[Stage, list[Truth]]) -> None:
    assert max(len(true.events) for truths in many.values() for true in truths) <= MAX_EVENTS


def test_before_stage_c_nothing_happens_to_two_sprites_at_once(many: dict[Stage, list[Truth]]) -> None:
    pairs = 0
    for stage in STAGES[:2]:
        for one, other in (pair for true in many[stage] for pair in combinations(true.events, 2)):
            if one.sprite != other.sprite:
                assert other.start_s >= one.end_s + 0.5
                pairs += 1
    assert pairs > CLIPS


def test_training_never_shows_a_combination_that_is_held_out(many: dict[Stage, list[Truth]]) -> None:
    shown = {
        (sprite.kind, sprite.colour, sprite.motion)
        for truths in many.values()
        for true in truths
        for sprite in true.scene.sprites
    }
    assert len(shown) > 150
    assert not any(held_out(*combination) for combination in shown)


def test_of_a_combination_that_is_held_out_every_two_parts_occur_in_training() -> None:
    trained = [combination for combination in product(KINDS, COLOURS, MOTIONS) if not held_out(*combination)]
    assert len(KINDS) * len(COLOURS) * len(MOTIONS) / 8 == 35 == 280 - len(trained)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        parts = product((KINDS, COLOURS, MOTIONS)[one], (KINDS, COLOURS, MOTIONS)[other])
        assert set(parts) == {(combination[one], combination[other]) for combination in trained}


def test_about_half_of_the_held_out_scenes_show_a_new_combination_and_none_is_a_training_scene() -> None:
    for stage in STAGES:
        scenes = [draw_scene(seed, stage, split="held_out") for seed in range(40)]
        assert 0.3 < sum(scene.novel for scene in scenes) / len(scenes) < 0.85
        casts = {draw_scene(seed, stage).sprites for seed in range(40)}
        assert not casts & {scene.sprites for scene in scenes if scene.sprites}
