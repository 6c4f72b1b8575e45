"""The gate keeps what happens, and drops what noise, light and a shaking camera do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.capture.gate import ANCHOR_S, EPISODE_S, Gate, Kept
from edge.records import Size

SIZE = Size(96, 128)
FPS = 8.0
PAIRS = 240
Picture = NDArray[np.float64]


def ground(seed: int = 1) -> Picture:
    """Return a textured picture, shape (height + 8, width + 8, 3), so that it can be shifted."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 200, (13, 17, 3)).repeat(8, 0).repeat(8, 1)
    return np.asarray(coarse + rng.uniform(-20, 20, coarse.shape))[: SIZE.height + 8, : SIZE.width + 8]


def film(
    draw: Callable[[Picture, int], None] | None = None,
    *,
    noise: float = 4.0,
    light: Callable[[int], float] = lambda _tick: 1.0,
    shake: Callable[[int], tuple[int, int]] = lambda _tick: (0, 0),
    pairs: int = PAIRS,
    scene: int = 1,
) -> Iterator[NDArray[np.uint8]]:
    """Yield pairs of a fixed camera's pictures.

    Args:
        draw: Puts what happens into the picture of a tick.
        noise: Standard deviation, levels.
        light: Strength at a tick.
        shake: How far the camera strayed at a tick, at most 4 pixels.
        pairs: How many.
        scene: What the camera looks at.
    """
    rng = np.random.default_rng(2)
    texture = ground(scene)
    grain = rng.normal(0, noise, 4 * texture.size)

    def picture(tick: int) -> NDArray[np.uint8]:
        down, right = shake(tick)
        shown = texture[4 + down :, 4 + right :][: SIZE.height, : SIZE.width].copy()
        if draw is not None:
            draw(shown, tick)
        start = int(rng.integers(len(grain) - shown.size))
        shown = shown * light(tick) + grain[start : start + shown.size].reshape(shown.shape)
        return np.clip(np.rint(shown), 0, 255).astype(np.uint8)

    for index in range(pairs):
        yield np.stack([picture(2 * index), picture(2 * index + 1)])


def kept(pairs: Iterator[NDArray[np.uint8]], *, threshold: float = 1.0) -> list[Kept[int]]:
    """Return what the gate keeps of one clip; the items are the pairs' indices."""
    gate: Gate[int] = Gate(SIZE, fps=FPS, threshold=threshold)
    found = [each for index, frames in enumerate(pairs) for each in gate.see(frames, index)]
    return found + gate.end()


def indices(found: list[Kept[int]]) -> list[int]:
    return [each.item for each in found]


def box(top: int, left: int, side: int = 12, *, level: float = 235.0) -> Callable[[Picture], None]:
    def draw(picture: Picture) -> None:
        picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = level

    return draw


def test_a_still_scene_costs_its_anchors_and_nothing_else() -> None:
    found = indices(kept(film()))
    assert found[0] == 0
    assert found[-1] == PAIRS - 1
    assert len(found) <= 0.05 * PAIRS
    gaps = np.diff(found)
    assert gaps.max() <= ANCHOR_S * FPS / 2


@pytest.mark.parametrize(
    "what",
    [
        pytest.param({"noise": 8.0}, id="grain"),
        pytest.param({"light": lambda tick: 1 + 0.1 * np.sin(tick / 40)}, id="light"),
        pytest.param({"shake": lambda tick: ((tick // 3) % 3 - 1, (tick // 5) % 2)}, id="shake"),
    ],
)
def test_noise_light_and_shake_are_not_taken_for_something_that_happens(
    what: dict[str, Callable[[int], float]],
) -> None:
    assert len(kept(film(**what))) <= 0.05 * PAIRS  # type: ignore[arg-type]


@pytest.mark.parametrize("first_tick", [101, 102, 103])
def test_what_is_there_for_two_pictures_is_kept_and_so_is_the_moment_before(first_tick: int) -> None:
    def draw(picture: Picture, tick: int) -> None:
        if first_tick <= tick < first_tick + 2:
            box(40, 60)(picture)

    found = indices(kept(film(draw)))
    assert first_tick // 2 in found or (first_tick + 1) // 2 in found
    assert first_tick // 2 - 1 in found


def test_who_crosses_the_picture_is_kept_coming_and_going_within_half_a_second() -> None:
    def draw(picture: Picture, tick: int) -> None:
        box(40, -12 + (tick - 160))(picture)

    found = np.array(indices(kept(film(draw)))) * 2
    for event in (160, 160 + SIZE.width + 12):
        assert np.abs(found - event).min() <= 0.5 * FPS, f"tick {event}, kept {found.tolist()}"


@pytest.mark.parametrize("stays_s", [0.0, 10.0])
def test_the_kept_pairs_before_and_after_what_happens_are_half_a_second_apart(stays_s: float) -> None:
    """Whoever can name no time but those of the pairs is right with either of the two."""
    begin, stop, speed = 160, 190, 2
    start = stop + round(stays_s * FPS)
    end = begin + (12 + SIZE.width) // speed + start - stop

    def draw(picture: Picture, tick: int) -> None:
        box(40, -12 + speed * (min(tick, stop) - begin + max(0, tick - start)))(picture)

    found = np.array(indices(kept(film(draw)))) * 2
    for event in (begin, *((stop, start) if stays_s else ()), end):
        before, after = found[found < event].max(), found[found >= event].min()
        assert after - before <= 0.5 * FPS, f"tick {event}, kept {found.tolist()}"
    if stays_s:
        assert ((found >= start) & (found <= start + FPS)).sum() > 1  # it is shown moving off


def test_who_stays_at_the_border_is_shown_less_closely_after_a_while_until_the_scene_was_at_rest() -> None:
    rest = range(240, 264)

    def draw(picture: Picture, tick: int) -> None:
        box(-6, 10 + 3 * (tick % 32))(picture) if tick >= 40 and tick not in rest else None

    found = np.array(indices(kept(film(draw)))) * 2
    spent = round(EPISODE_S * FPS)

    def apart_s(begin: int, end: int) -> list[float]:
        return [float(each) / FPS for each in np.diff(found[(found >= begin) & (found <= end)])]

    for begin, end in ((40, rest.start), (rest.stop, 2 * PAIRS)):
        assert set(apart_s(begin, begin + spent)) <= {0.25, 0.5}
        assert np.mean(apart_s(begin + spent + 8, end)) >= 0.8
        assert max(apart_s(begin + spent, end)) <= 1.0


def test_what_creeps_is_compared_with_the_pair_kept_last_and_not_with_the_one_before() -> None:
    def draw(picture: Picture, tick: int) -> None:
        box(40, 30 + round(max(0, tick - 80) * 0.1), level=180.0)(picture)

    found = indices(kept(film(draw, pairs=160), threshold=1.0))
    assert len([index for index in found if 40 < index < 159]) >= 5


def test_a_higher_threshold_keeps_fewer_pairs_and_none_keeps_all() -> None:
    def draw(picture: Picture, tick: int) -> None:
        box(20 + 30 * (tick // 64 % 2), (3 * tick) % 150 - 12)(picture)

    counts = [len(kept(film(draw), threshold=threshold)) for threshold in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert counts[0] == PAIRS
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[1] / 2


def test_every_dropped_pair_is_counted_with_the_pair_that_follows_it() -> None:
    found = kept(film(pairs=100))
    assert [each.gated for each in found] == [0, *(np.diff(indices(found)) - 1)]
    assert found[0].score == 1


def test_the_next_clip_begins_with_a_pair_of_its_own() -> None:
    gate: Gate[int] = Gate(SIZE, fps=FPS)
    pairs = list(film(pairs=60))
    first = [each for index in range(30) for each in gate.see(pairs[index], index)] + gate.end()
    second = [each for index in range(30, 60) for each in gate.see(pairs[index], index)] + gate.end()
    assert [first[0].item, first[-1].item, second[0].item, second[-1].item] == [0, 29, 30, 59]


def test_another_view_is_soon_as_familiar_as_the_first() -> None:
    gate: Gate[int] = Gate(SIZE, fps=FPS)

    def clip(scene: int) -> int:
        found = [each for index, frames in enumerate(film(scene=scene)) for each in gate.see(frames, index)]
        return len(found + gate.end())

    counts = [clip(scene) for scene in (1, 2, 2)]  # the camera was turned, and then the same clip twice
    assert counts[1] <= counts[2] + 6
    assert counts[2] <= 0.05 * PAIRS
