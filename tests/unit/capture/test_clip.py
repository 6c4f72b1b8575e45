"""The grid: held against a brute-force choice over whole lists of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.capture.clip import (
    CAMERA_AWAY,
    NOT_YET,
    NOTHING_NEW,
    NS,
    SLACK_NS,
    Chosen,
    Done,
    Grid,
    Sampler,
    ticks_in,
)
from edge.records import Span

Step = Chosen[int] | Done
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Scene:
    """A grid and the pictures that are put on it; a picture is its index into ``times``."""

    grid: Grid
    times: list[int]
    end: int


grids = st.builds(Grid, st.sampled_from([8.0, 1.0, 3.0, 7.5, 29.97]), st.integers(1, 24))
# Bursts (no distance), camera rates, and silences of several clips.
distances = st.one_of(st.just(0), st.integers(1, 200 * MS), st.integers(1, 5 * NS), st.just(125 * MS))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    grid = draw(grids)
    now = draw(st.one_of(st.just(0), st.integers(-NS, 3 * NS)))
    times = [now]
    for distance in draw(st.lists(distances, max_size=60)):
        now += distance
        times.append(now)
    return Scene(grid, times, max(now, 0) + draw(st.integers(MS, NS)))


def played(scene: Scene, *, hold_ns: int | None = None, first_tick: int = 0) -> list[Step]:
    sampler: Sampler[int] = Sampler(scene.grid, hold_ns=hold_ns, first_tick=first_tick)
    steps: list[Step] = []
    for number, at in enumerate(scene.times):
        steps += sampler.offer(at, number)
    return steps + sampler.finish(scene.end)


def shown(scene: Scene, *, hold_ns: int | None = None) -> list[int | None]:
    """For every tick before the end: the last picture at or before it, straight from the definition."""
    result: list[int | None] = []
    while (at := scene.grid.tick_ns(len(result))) + SLACK_NS < scene.end:
        past = [number for number, time in enumerate(scene.times) if time <= at + SLACK_NS]
        alive = past and (hold_ns is None or at < scene.times[past[-1]] + hold_ns)
        result.append(past[-1] if alive else None)
    return result


def clips(scene: Scene, ticks: list[int | None]) -> list[list[int | None]]:
    length = scene.grid.ticks_per_clip
    return [ticks[begin : begin + length] for begin in range(0, len(ticks), length)]


def pairs_of(clip: list[int | None]) -> list[tuple[int, int, int]]:
    """The pairs of one clip: index and two pictures; an odd last tick twice, an empty tick shows the other's."""
    found = []
    for begin in range(0, len(clip), 2):
        there = [picture for picture in clip[begin : begin + 2] if picture is not None]
        if there:
            found.append((begin // 2, there[0], there[-1]))
    return found


@given(scenes())
@settings(deadline=None)
def test_every_tick_shows_what_the_definition_says(scene: Scene) -> None:
    steps = played(scene)
    expected = clips(scene, shown(scene))
    for number, clip in enumerate(expected):
        found = [(s.index, s.first, s.second) for s in steps if isinstance(s, Chosen) and s.clip == number]
        assert found == pairs_of(clip)
    assert [s.clip for s in steps if isinstance(s, Done)] == list(range(len(expected)))


@given(scenes(), st.integers(1, 3 * NS))
@settings(deadline=None)
def test_a_picture_stands_no_longer_than_it_may(scene: Scene, hold_ns: int) -> None:
    steps = played(scene, hold_ns=hold_ns)
    found = [(s.clip, s.index, s.first, s.second) for s in steps if isinstance(s, Chosen)]
    expected = [
        (k, *pair)
        for k, clip in enumerate(clips(scene, shown(scene, hold_ns=hold_ns)))
        for pair in pairs_of(clip)
    ]
    assert found == expected


@given(scenes())
@settings(deadline=None)
def test_clips_partition_the_time_line(scene: Scene) -> None:
    done = [s for s in played(scene) if isinstance(s, Done)]
    length = scene.grid.ticks_per_clip
    for one in done[:-1]:
        begin, end = scene.grid.tick_ns(one.clip * length), scene.grid.tick_ns((one.clip + 1) * length)
        assert one.stats.seconds == (end - begin) / NS
        assert one.stats.ticks == length
    assert sum(one.stats.seconds for one in done) == pytest.approx(scene.end / NS, abs=2 * SLACK_NS / NS)
    assert sum(one.stats.ticks for one in done) == len(shown(scene))


@given(scenes())
@settings(deadline=None)
def test_the_counts_are_those_of_a_recount(scene: Scene) -> None:
    steps = played(scene)
    before: int | None = None
    for one, clip in zip(
        (s.stats for s in steps if isinstance(s, Done)), clips(scene, shown(scene)), strict=True
    ):
        assert one.pairs == len(pairs_of(clip))
        assert one.ticks_empty == clip.count(None)
        assert one.ticks == len(clip)
        repeated = 0
        for picture in clip:
            repeated += picture is not None and picture == before
            before = picture
        assert one.ticks_repeated == repeated
    counted = sum(s.stats.frames_decoded for s in steps if isinstance(s, Done))
    assert counted == sum(time + SLACK_NS >= 0 for time in scene.times)


@given(scenes())
@settings(deadline=None)
def test_lateness_is_the_largest_age_of_a_shown_picture(scene: Scene) -> None:
    length = scene.grid.ticks_per_clip
    ticks = shown(scene)
    for step in played(scene):
        if isinstance(step, Done):
            first = step.clip * length
            ages = [
                scene.grid.tick_ns(tick) - scene.times[picture]
                for tick, picture in enumerate(ticks)
                if picture is not None and first <= tick < first + length
            ]
            assert step.stats.late_max_s == max(0, *ages, 0) / NS


@given(scenes())
@settings(deadline=None)
def test_gaps_name_every_silence_and_nothing_else(scene: Scene) -> None:
    length = scene.grid.ticks_per_clip
    limit = scene.grid.gap_limit_ns()
    silences = [(a, b) for a, b in pairwise([*scene.times, scene.end]) if b - a > limit]
    if scene.times[0] > SLACK_NS:
        silences.insert(0, (0, scene.times[0]))  # ticks without any picture are always in a gap
    for step in played(scene):
        if not isinstance(step, Done):
            continue
        begin = scene.grid.tick_ns(step.clip * length)
        end = begin + round(step.stats.seconds * NS)
        expected = [
            ((max(a, begin) - begin) / NS, (min(b, end) - begin) / NS)
            for a, b in silences
            if max(a, begin) < min(b, end)
        ]
        assert [gap.start_s for gap in step.stats.gaps] == pytest.approx([a for a, _ in expected], abs=1e-6)
        assert [gap.end_s for gap in step.stats.gaps] == pytest.approx([b for _, b in expected], abs=1e-6)
        assert all(gap.reason in {NOT_YET, NOTHING_NEW} for gap in step.stats.gaps)


@given(scenes(), st.integers(0, 60))
@settings(deadline=None)
def test_a_run_that_goes_on_makes_the_pairs_that_were_missing(scene: Scene, first_tick: int) -> None:
    length = scene.grid.ticks_per_clip
    clip, index = divmod(first_tick, length)
    whole = [s for s in played(scene) if isinstance(s, Chosen)]
    rest = [s for s in played(scene, first_tick=first_tick) if isinstance(s, Chosen)]
    assert rest == [s for s in whole if (s.clip, s.index) >= (clip, index // 2)]


@given(scenes())
@settings(deadline=None)
def test_a_pair_comes_as_soon_as_a_later_picture_is_there(scene: Scene) -> None:
    sampler: Sampler[int] = Sampler(scene.grid)
    seen: list[Step] = []
    for number, at in enumerate(scene.times):
        seen += sampler.offer(at, number)
        so_far = Scene(scene.grid, scene.times[: number + 1], at)
        expected = [
            (k, *pair) for k, clip in enumerate(clips(so_far, shown(so_far))) for pair in pairs_of(clip)
        ]
        found = [(s.clip, s.index, s.first, s.second) for s in seen if isinstance(s, Chosen)]
        # All of what is certain, save a pair whose second tick is still open.
        assert found == expected[: len(found)]
        assert len(expected) - len(found) <= 1


@given(
    grids,
    st.lists(st.tuples(st.sampled_from(["offer", "advance", "away"]), st.integers(-NS, 8 * NS)), max_size=60),
)
@settings(deadline=None)
def test_no_order_of_calls_shows_the_future_or_loses_a_clip(grid: Grid, calls: list[tuple[str, int]]) -> None:
    """Times run anyhow here: backwards, late, twice. A picture is its time."""
    sampler: Sampler[int] = Sampler(grid, hold_ns=2 * NS)
    steps: list[Step] = []
    for name, at in calls:
        if name == "offer":
            steps += sampler.offer(at, at)
        elif name == "advance":
            steps += sampler.advance(at)
        else:
            sampler.away(at)
    for step in steps:
        if isinstance(step, Chosen):
            second = grid.tick_ns(
                min(
                    step.clip * grid.ticks_per_clip + 2 * step.index + 1,
                    (step.clip + 1) * grid.ticks_per_clip - 1,
                )
            )
            assert step.first <= step.second <= second + SLACK_NS
        else:
            gaps = step.stats.gaps
            assert step.stats.ticks == grid.ticks_per_clip
            assert all(0 <= gap.start_s < gap.end_s <= step.stats.seconds + 1e-9 for gap in gaps)
            assert all(one.end_s <= other.start_s + 1e-9 for one, other in pairwise(gaps))
            if step.stats.ticks_empty:
                assert gaps
    done = [s.clip for s in steps if isinstance(s, Done)]
    assert done == list(range(len(done)))
    keys = [(s.clip, s.index) for s in steps if isinstance(s, Chosen)]
    assert keys == sorted(set(keys))


def test_sixty_seconds_at_ten_frames_give_480_ticks_and_240_pairs() -> None:
    scene = Scene(Grid(8.0, 480), [number * 100 * MS for number in range(795)], 79_500 * MS)
    steps = played(scene)
    first, second = (s.stats for s in steps if isinstance(s, Done))
    assert (first.seconds, first.ticks, first.pairs, first.frames_decoded) == (60.0, 480, 240, 600)
    assert (first.ticks_repeated, first.ticks_empty, first.gaps, first.late_max_s) == (0, 0, (), 0.075)
    assert (second.seconds, second.ticks, second.pairs, second.frames_decoded) == (19.5, 156, 78, 195)


def test_a_pair_stands_at_the_mean_of_its_ticks_and_an_odd_last_tick_at_its_own() -> None:
    steps = played(Scene(Grid(8.0, 480), [0], 375 * MS))  # ticks at 0, 0.125 and 0.25 s
    assert [s.time_s for s in steps if isinstance(s, Chosen)] == [0.0625, 0.25]
    assert [s.stats.ticks for s in steps if isinstance(s, Done)] == [3]


def test_time_alone_closes_clips_while_the_camera_is_away() -> None:
    sampler: Sampler[str] = Sampler(Grid(8.0, 16), hold_ns=6 * NS)
    assert sampler.offer(0, "door") == []
    sampler.away(NS)
    steps = sampler.advance(4 * NS)
    first, second = (s.stats for s in steps if isinstance(s, Done))
    assert (first.pairs, first.ticks_empty, first.gaps) == (4, 8, (Span(0.0, 2.0, CAMERA_AWAY),))
    assert (second.pairs, second.ticks_empty, second.gaps) == (0, 16, (Span(0.0, 2.0, CAMERA_AWAY),))
    sampler.offer(4 * NS + MS, "back")
    sampler.offer(5 * NS, "still there")
    third = sampler.advance(6 * NS)[-1]
    assert isinstance(third, Done)
    assert third.stats.ticks_empty == 1
    assert third.stats.gaps == (Span(0.0, 0.001, CAMERA_AWAY),)
    assert third.stats.pairs == 8  # tick 0 is empty, so its pair shows the second tick's picture twice


def test_a_picture_out_of_order_is_counted_and_not_shown() -> None:
    sampler: Sampler[str] = Sampler(Grid(8.0, 4))
    for at, name in ((0, "a"), (200 * MS, "c"), (100 * MS, "b")):
        sampler.offer(at, name)
    pairs = [(s.first, s.second) for s in sampler.finish(500 * MS) if isinstance(s, Chosen)]
    assert pairs == [("c", "c")]  # the pair before was certain when c came


def test_the_product_of_seconds_and_rate_may_be_rounded() -> None:
    assert ticks_in(60.0, 8.0) == 480
    assert ticks_in(0.1 + 0.2, 10.0) == 3
    assert ticks_in(2.01, 8.0) == 17


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf])
def test_a_grid_without_a_rate_is_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="grid"):
        Grid(fps, 480)
