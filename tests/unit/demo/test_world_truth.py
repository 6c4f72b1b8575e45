"""The truth against the pixels: what is said to be somewhere changes the picture there, then, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.demo.world import Event, Scene, Sprite, Stage, Truth, draw_scene, render, truth
from edge.demo.world.event import SEEN
from edge.demo.world.place import places
from edge.demo.world.scene import Key, shake
from edge.demo.world.vocabulary import COLOURS, KINDS, group_of

# A difference of fewer levels is rounding, or a shade that happens to be the background's.
LEVELS = 10
# Times are told to a tenth of a second, which is most of a tick.
ROUNDING_TICKS = 0.5

SCENES: tuple[tuple[int, Stage], ...] = (
    *((seed, "a") for seed in range(12)),
    *((seed, "b") for seed in range(4)),
    *((seed, "c") for seed in range(10, 22)),
)


@cache
def plain(seed: int, stage: Stage) -> Scene:
    """A scene without noise, drift and shake, so that only sprites change pixels."""
    return replace(draw_scene(seed, stage, split="held_out"), noise=0.0, drift=0.0, shake=0.0)


def truths() -> list[Truth]:
    return [truth(plain(seed, stage)) for seed, stage in SCENES]


def absent(sprite: Sprite) -> Sprite:
    return replace(sprite, path=(Key(1e6, 0, 0), Key(2e6, 0, 0)), carried=())


def without(scene: Scene, *indices: int) -> Scene:
    """The scene without some sprites; the others keep their numbers."""
    return replace(
        scene,
        sprites=tuple(
            absent(sprite) if index in indices else sprite for index, sprite in enumerate(scene.sprites)
        ),
    )


def changed(one: Scene, other: Scene, tick: int) -> NDArray[np.bool_]:
    """Which pixels differ between two scenes."""
    difference = np.abs(render(one, tick).astype(int) - render(other, tick)).max(2)
    found: NDArray[np.bool_] = difference > LEVELS
    return found


def pixels(scene: Scene, index: int, tick: int) -> NDArray[np.bool_]:
    """Which pixels a sprite is seen at, others before it considered."""
    return changed(scene, without(scene, index), tick)


def alone(scene: Scene, index: int, tick: int) -> int:
    """How many pixels a sprite would be seen at if it were alone."""
    others = [other for other in range(len(scene.sprites)) if other != index]
    return int(changed(without(scene, *others), without(scene, *others, index), tick).sum())


def shows(scene: Scene, index: int, ticks: range, *, of: range) -> list[int]:
    """At which of some ticks a sprite shows so much of itself that it counts as seen.

    ``of`` are ticks at one of which it is wholly there.
    """
    whole = max(alone(scene, index, tick) for tick in of)
    return [tick for tick in ticks if alone(scene, index, tick) >= SEEN * whole]


def happening(*kinds: str) -> Iterator[tuple[Scene, Event]]:
    for true in truths():
        for event in true.events:
            if event.kind in kinds:
                yield true.scene, event


def test_a_box_holds_what_is_seen_of_a_sprite_and_nothing_more() -> None:
    boxes = 0
    for true in truths():
        scene = true.scene
        size = np.array([scene.size.width, scene.size.height] * 2)
        for tick in range(3, scene.ticks, max(7, scene.ticks // 8)):
            for seen in true.sights(tick):
                shown = pixels(scene, seen.sprite, tick)
                rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
                edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                assert np.abs(edges - np.array(seen.box) / 1000 * size).max() <= 2, (scene.seed, tick, seen)
                boxes += 1
    assert boxes > 150


def test_what_is_not_listed_is_hardly_seen() -> None:
    for true in truths():
        for tick in range(5, true.scene.ticks, max(9, true.scene.ticks // 6)):
            listed = {seen.sprite for seen in true.sights(tick)}
            for index in set(range(len(true.scene.sprites))) - listed:
                height, width = true.scene.size.height, true.scene.size.width
                assert pixels(true.scene, index, tick).sum() < 0.02 * height * width


@pytest.mark.parametrize("kind", ["enter", "leave"])
def test_one_enters_and_leaves_while_a_part_of_it_can_be_seen(kind: str) -> None:
    events = 0
    for scene, event in happening(kind):
        if " with " in event.does:
            continue  # begins with the load's part
        first, last = (round(at * scene.fps) for at in (event.start_s, event.end_s))
        at = first if kind == "enter" else last
        window = range(max(0, at - 4), min(scene.ticks, at + 5))
        around = range(max(0, first - 4), min(scene.ticks, last + 5))
        shown = shows(scene, event.sprite, window, of=around)
        found = shown[0] if kind == "enter" else shown[-1]
        exact = (event.start_s if kind == "enter" else event.end_s) * scene.fps
        assert abs(found - exact) <= 1 + ROUNDING_TICKS, (scene.seed, event)
        events += 1
    assert events >= 20


def test_somebody_with_a_load_enters_with_the_part_of_either() -> None:
    loaded = 0
    for scene, event in happening("enter"):
        if " with " in event.does:
            at = event.start_s * scene.fps
            pair = [event.sprite, *(i for i, sprite in enumerate(scene.sprites) if sprite.carried)]
            window = range(max(0, round(at) - 4), round(at) + 5)
            around = range(window.start, min(scene.ticks, round(event.end_s * scene.fps) + 5))
            first = min(tick for index in pair for tick in shows(scene, index, window, of=around)[:1])
            assert abs(first - at) <= 1 + ROUNDING_TICKS
            loaded += 1
    assert loaded


def test_one_stands_from_stop_to_start_and_moves_otherwise() -> None:
    for scene, event in happening("stop", "start"):
        tick = round(event.start_s * scene.fps)
        stands, moves = (tick + 1, tick - 3) if event.kind == "stop" else (tick - 2, tick + 2)
        others = [other for other in range(len(scene.sprites)) if other != event.sprite]
        own = without(scene, *others)
        assert (render(own, stands) == render(own, stands + 1)).all()
        assert (render(own, moves) != render(own, moves + 1)).any()


def test_a_flash_is_seen_for_two_ticks() -> None:
    flashes = 0
    for scene, event in happening("flash"):
        first = round(event.start_s * scene.fps)
        shown = [
            tick for tick in range(max(0, first - 4), first + 6) if pixels(scene, event.sprite, tick).any()
        ]
        assert len(shown) == 2
        assert abs(shown[0] - event.start_s * scene.fps) <= ROUNDING_TICKS
        flashes += 1
    assert flashes


def test_who_hides_is_gone_until_it_reappears() -> None:
    hidden = 0
    for true in truths():
        hides = [event for event in true.events if event.kind == "hide"]
        backs = [event for event in true.events if event.kind == "reappear"]
        for hide, back in zip(hides, backs, strict=True):
            scene = true.scene
            assert (hide.sprite, hide.other) == (back.sprite, back.other)
            inside = range(round(hide.end_s * scene.fps) + 1, round(back.start_s * scene.fps))
            whole = pixels(without(scene, hide.other or 0), hide.sprite, inside[0]).sum()
            assert all(pixels(scene, hide.sprite, tick).sum() < 0.2 * whole for tick in inside[::5])
            assert hide.sprite not in {seen.sprite for seen in true.sights(inside[len(inside) // 2])}
            hidden += 1
    assert hidden


def test_what_is_carried_moves_with_its_carrier_from_pick_up_to_put_down() -> None:
    carried = 0
    for scene, event in happening("pick up", "put down"):
        assert event.other is not None
        tick = round(event.start_s * scene.fps)
        at_rest = tick - 2 if event.kind == "pick up" else tick + 2
        others = [other for other in range(len(scene.sprites)) if other != event.other]
        load = without(scene, *others)
        assert (render(load, at_rest) == render(load, at_rest + 1)).all()
        true = truth(scene)
        held = tick + 2 if event.kind == "pick up" else tick - 2
        parcel = scene.sprites[event.other].label
        relations = {(r.subject, r.relation, r.object) for r in true.relations(held)}
        assert (scene.sprites[event.sprite].label, "carrying", parcel) in relations
        assert not any(
            relation.relation == "carrying"
            for relation in true.relations(at_rest)
            if relation.object == parcel
        )
        carried += 1
    assert carried >= 3


def test_who_passes_changes_sides_with_the_other() -> None:
    crossings = 0
    for scene, event in happening("cross"):
        assert event.other is not None
        # Uncut boxes: by then one of them may be out of the picture.
        ticks = [round(at * scene.fps) for at in (event.start_s - 0.3, event.end_s + 0.3)]
        left = places(scene).boxes[:, ticks, 0]
        assert np.isfinite(left[[event.sprite, event.other]]).all()
        before, after = left[event.sprite] < left[event.other]
        assert before != after
        crossings += 1
    assert crossings


def test_counts_are_the_sprites_that_can_be_seen() -> None:
    for true in truths():
        for tick in (0, true.scene.ticks // 2, -1):
            seen = [true.scene.sprites[s.sprite].kind for s in true.sights(tick)]
            assert true.counts(tick) == {
                group: sum(group_of(kind) == group for kind in seen) for group in true.counts(tick)
            }


def test_relations_agree_with_the_boxes() -> None:
    kinds = set()
    for true in truths():
        for tick in range(0, true.scene.ticks, 31):
            boxes = {seen.label: seen.box for seen in true.sights(tick)}
            for relation in true.relations(tick):
                (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes[relation.subject], boxes[relation.object]
                kinds.add(relation.relation)
                across = (max(x1, u1) - min(x2, u2)) * true.scene.size.width
                down = (max(y1, v1) - min(y2, v2)) * true.scene.size.height
                assert {
                    "left of": across > down and x1 + x2 < u1 + u2,
                    "right of": across > down and x1 + x2 >= u1 + u2,
                    "above": across <= down and y1 + y2 < v1 + v2,
                    "below": across <= down and y1 + y2 >= v1 + v2,
                }.get(relation.relation, True)
    assert kinds >= {"left of", "right of", "above", "below", "behind", "carrying", "next to"}


def test_what_is_far_above_and_a_little_to_the_left_is_above() -> None:
    """A person would not call it left of the other, however clear to that side it is."""
    scene = plain(0, "b")

    def stands(colour: str, across: float, down: float) -> Sprite:
        return Sprite(
            "square",
            colour,
            "none",
            0.2,
            (Key(0.0, across, down), Key(1e3, across, down)),
        )

    upper, lower, beside = stands("red", 0.2, 0.15), stands("green", 0.4, 0.8), stands("white", 0.8, 0.75)
    found = truth(replace(scene, sprites=(upper, lower, beside))).relations(0)
    said = {(each.subject, each.relation, each.object) for each in found}
    assert said == {
        ("green square", "below", "red square"),
        ("green square", "left of", "white square"),
        ("red square", "left of", "white square"),
    }


def test_a_cell_names_what_lies_in_it() -> None:
    named = 0
    for true in truths():
        scene = true.scene
        empty = without(scene, *range(len(scene.sprites)))
        for tick in range(2, scene.ticks, max(11, scene.ticks // 5)):
            cells = true.cells(tick)
            assert cells.shape == (scene.size.height // 32, scene.size.width // 32, 2)
            full = changed(scene, empty, tick).reshape(cells.shape[0], 32, cells.shape[1], 32).sum((1, 3))
            assert (full[cells[..., 0] == 0] < 0.2 * 32 * 32).all()
            assert (full[cells[..., 0] > 0] > 0).all()
            labels = {seen.label for seen in true.sights(tick)}
            for kind, colour in cells[cells[..., 0] > 0]:
                assert f"{COLOURS[colour - 1]} {KINDS[kind - 1]}" in labels
                named += 1
            assert len({tuple(pair) for pair in cells[cells[..., 0] > 0].tolist()}) >= min(1, len(labels))
    assert named > 100


def test_a_shaking_camera_moves_ground_and_sprites_alike() -> None:
    scene = replace(plain(30, "c"), shake=0.04, background="bricks")
    strays = shake(scene)
    first = int(np.flatnonzero((strays[:, 0] != 0) & (strays[:, 1] == 0))[0])
    then = int(np.flatnonzero((strays[:, 0] == 0) & (strays[:, 1] != 0))[0])
    assert len({tuple(stray) for stray in strays.tolist()}) > 5
    assert not truth(scene).events  # so whatever moves is the camera
    assert scene.sprites
    down, right = (strays[then] - strays[first]).tolist()
    margin = 2 * scene.shake_px
    inner = slice(margin, -margin), slice(margin, -margin)
    moved = np.roll(render(scene, first).astype(int), (down, right), (0, 1))
    # A sprite's edge may round differently; nothing else may differ.
    assert np.abs(moved - render(scene, then))[inner].max() <= 1
    size = np.array([scene.size.width, scene.size.height] * 2)
    for before, after in zip(truth(scene).sights(first), truth(scene).sights(then), strict=True):
        step = (np.array(after.box) - np.array(before.box)) / 1000 * size
        np.testing.assert_allclose(step, [right, down, right, down], atol=0.3)
