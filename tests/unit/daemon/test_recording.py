"""One clip in memory: its statistics tell exactly what was received, whoever delivered it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.daemon.recording import CAPTURE_RESTARTED, STEP_S, Now, Recording, Timeline
from edge.records import ClipPlan, ClipStats, Pair, Size, Span, Still

FPS, PAIRS = 8.0, 20
SECONDS = PAIRS * 2 / FPS
NONE = Size(0, 0)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def recording() -> Recording:
    return Recording(ClipPlan("cam", 3, "id", START, True, SECONDS, FPS, NONE, NONE))


def pair(index: int, side: int = 2) -> Pair:
    return Pair(index, (2 * index + 0.5) / FPS, np.zeros((2, side, side, 3), np.uint8))


def told(pairs: int, *gaps: Span) -> ClipStats:
    return ClipStats(SECONDS, 2 * PAIRS, 50, 4, 2 * PAIRS - 2 * pairs, pairs, 0.2, gaps, 1.5)


def test_a_capture_process_that_saw_the_whole_clip_is_believed() -> None:
    clip = recording()
    for index in range(PAIRS):
        assert clip.offer(pair(index), Size(480, 640))
    stats = told(PAIRS, Span(1.0, 2.5, "nothing new"))
    assert clip.close(stats, seconds=SECONDS) is stats
    assert (clip.plan.size, clip.plan.source_size) == (Size(2, 2), Size(480, 640))


@given(
    first=st.sets(st.integers(0, PAIRS - 1)),
    second=st.sets(st.integers(0, PAIRS - 1)),
    gated=st.sets(st.integers(0, PAIRS - 1)),
    reported=st.booleans(),
)
def test_pairs_shown_and_gated_and_gaps_make_up_the_clip(
    first: set[int], second: set[int], gated: set[int], reported: bool
) -> None:
    clip = recording()

    def deliver(index: int) -> None:
        if index in gated:
            clip.gate([index])
        else:
            clip.offer(pair(index), None)

    for index in sorted(first):
        deliver(index)
    clip.capture_lost()
    joined = clip.next_tick // 2
    late = sorted(index for index in second if index >= joined)
    for index in late:
        deliver(index)
    # The successor calls everything away that it did not deliver itself, even what came before its time.
    missing = [index for index in range(PAIRS) if index not in late]
    gaps = [Span(index * 2 / FPS, (index + 1) * 2 / FPS, "away") for index in missing]
    report = replace(told(len(late), *gaps), pairs_gated=len(gated & set(late)), gate=1.0)
    stats = clip.close(report if reported else None, seconds=SECONDS)
    got = first | set(late)
    assert stats.pairs == clip.count + clip.gated == len(got)
    assert stats.pairs_gated == clip.gated == len(got & gated)
    blind = {
        index for index in range(PAIRS) for gap in stats.gaps if gap.start_s <= index * 2 / FPS < gap.end_s
    }
    assert blind == set(range(PAIRS)) - got
    assert all(a.end_s <= b.start_s for a, b in pairwise(stats.gaps))
    assert {gap.reason for gap in stats.gaps if gap.end_s <= joined * 2 / FPS} <= {CAPTURE_RESTARTED}


def test_a_pair_that_does_not_belong_is_refused_and_becomes_a_gap() -> None:
    clip = recording()
    assert clip.offer(pair(0), None)
    assert not clip.offer(pair(0), None)  # again
    assert not clip.offer(pair(1, side=4), None)  # another picture
    assert not clip.offer(pair(PAIRS), None)  # beyond the end
    assert (clip.count, clip.refused) == (1, 3)
    stats = clip.close(None, seconds=1.0, reason="shutdown")
    assert (stats.seconds, stats.ticks, stats.pairs, stats.ticks_empty) == (1.0, 8, 1, 6)
    assert stats.gaps == (Span(0.25, 1.0, "shutdown"),)


def test_pairs_are_held_for_a_second_attempt_and_let_go_in_it() -> None:
    clip = recording()
    for index in range(5):
        clip.offer(pair(index), None)
    clip.rewind()
    assert [p.index for p in clip.take(3, keep=True)] == [0, 1, 2]
    assert (clip.ready(), clip.held) == (2, 5)
    clip.rewind()
    assert [p.index for p in clip.take(3, keep=False)] == [0, 1, 2]
    assert (clip.ready(), clip.held) == (2, 2)
    assert [p.index for p in clip.take(3, keep=False)] == [3, 4]
    assert (clip.attempts, clip.held) == (2, 0)


@given(
    seconds=st.integers(16, 4800).map(lambda pairs: pairs / 8),
    offsets_ms=st.lists(st.integers(-20, 20), max_size=8),
)
def test_clips_touch_exactly_as_long_as_nobody_sets_the_clock(seconds: float, offsets_ms: list[int]) -> None:
    timeline = Timeline(origin_mono_ns=123, first_seq=9, seconds=seconds, paced=True)
    starts = []
    for seq, offset_ms in enumerate([0, *offsets_ms], 9):
        mono_ns = timeline.start_mono_ns(seq) + 700_000_000  # the loop turns a little late
        t_start, step_s = timeline.begin(seq, Now(mono_ns, mono_ns + offset_ms * 1_000_000, synced=True))
        assert step_s == 0
        starts.append(t_start)
    assert all(b - a == timedelta(seconds=seconds) for a, b in pairwise(starts))


def test_a_clip_that_begins_after_the_clock_was_set_tells_the_new_time() -> None:
    timeline = Timeline(origin_mono_ns=0, first_seq=0, seconds=60.0, paced=True)
    first, _ = timeline.begin(0, Now(0, 10**18, synced=False))
    second, step_s = timeline.begin(1, Now(60 * 10**9, 10**18 + 65 * 10**9, synced=True))
    assert (second - first).total_seconds() == 65
    assert step_s == pytest.approx(5.0)
    assert step_s > STEP_S


def test_the_key_frame_of_a_clip_with_a_pause_in_it_is_shown_to_nobody() -> None:
    still = Still(1.0, np.zeros((4, 4, 3), np.uint8))
    whole, paused, failed = recording(), recording(), recording()
    paused.withhold([0])
    failed.failed = True
    for clip in (whole, paused, failed):
        clip.take_still(still)
    assert (whole.still, paused.still, failed.still) == (still, None, None)
    whole.free()
    assert whole.still is None
