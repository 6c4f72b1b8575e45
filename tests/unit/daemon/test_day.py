"""A simulated day: whatever comes, the service does less on purpose, says so, and is back at everything afterwards."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from edge.host.governor import EASE_S, PRESS_S, RUNGS, SKIP
from tests.day import CAMERAS, CLIP, DAY, HOUR, Day, Simulation


@pytest.fixture(scope="module")
def day() -> Day:
    return Simulation().run()


def test_every_second_of_every_camera_lies_in_one_clip_that_ended_once(day: Day) -> None:
    for camera in CAMERAS:
        opened, ended = day.opened[camera], day.ended[camera]
        assert [clip.seq for clip in opened] == list(range(len(opened)))
        assert len(opened) >= DAY // CLIP
        assert len({end.seq for end in ended}) == len(ended)
        assert {end.seq for end in ended} >= set(
            range(DAY // CLIP - 3)
        )  # the last ones are in hand at midnight
        for before, after in pairwise(opened):
            assert after.t_start - before.t_start == timedelta(seconds=CLIP)
        for end in ended:
            assert end.seconds == CLIP
            assert end.outcome in ("answered", "partial") or end.reason in (
                "backlog",
                "heat",
                "memory",
                "battery",
            )


def test_no_rung_is_left_faster_than_the_hysteresis_allows(day: Day) -> None:
    steps = [(second, standing.rung) for second, standing in day.ladder]
    for (before_s, before), (after_s, after) in pairwise(steps):
        if after < before:
            assert after == before - 1
            assert after_s - before_s >= EASE_S
        elif after == before + 1 and after < SKIP - 1:
            assert after_s - before_s >= PRESS_S or before_s == 0
    turns = sum(
        (b[1] - a[1]) * (c[1] - b[1]) < 0 for a, b, c in zip(steps, steps[1:], steps[2:], strict=False)
    )
    assert turns <= 20, steps  # seven spells of trouble, each entered and left, some in two stages


def test_no_camera_starves_and_all_get_the_same(day: Day) -> None:
    answered = {
        camera: [end.seq for end in day.ended[camera] if end.outcome == "answered"] for camera in CAMERAS
    }
    for seqs in answered.values():
        for before, after in pairwise(seqs):
            stopped = SKIP in day.rungs(before * CLIP / HOUR, (after + 1) * CLIP / HOUR)
            assert after - before <= 6 or stopped
    counts = [len(seqs) for seqs in answered.values()]
    assert max(counts) - min(counts) <= 0.02 * max(counts)


def test_what_is_given_up_is_announced_with_the_reason_that_holds(day: Day) -> None:
    assert day.reasons(2.05, 2.2) == {"memory"}
    assert "heat" in day.reasons(14, 15)
    assert day.reasons(20.8, 21) == {"battery"}
    assert day.reasons(0, 1.8) == day.reasons(9.5, 12) == set()


def test_trouble_costs_rungs_before_it_costs_clips(day: Day) -> None:
    assert 0 < max(day.rungs(7, 9)) < SKIP  # the rush hour
    lost = [
        end
        for ends in day.ended.values()
        for end in ends
        if end.reason == "backlog" and 7 <= end.seq / 60 < 9
    ]
    assert len(lost) <= 0.05 * 3 * 120


def test_the_day_ends_at_the_top_rung_and_answers_say_so(day: Day) -> None:
    assert day.ladder[-1][1].rung == 0
    last = [end.clip_id for ends in day.ended.values() for end in ends[-3:]]
    assert {day.efforts[clip].name for clip in last} == {RUNGS[0].name}


def test_two_equal_days_are_equal_to_the_last_decision(day: Day) -> None:
    other = Simulation().run()
    assert other.ladder == day.ladder
    assert other.ended == day.ended
