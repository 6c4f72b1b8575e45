"""The governor: what each cause asks for, and that no series of readings makes the ladder sway."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.host.governor import (
    DEFER,
    EASE_S,
    PRESS_S,
    RUNGS,
    SHORT,
    SKIP,
    TOP,
    Inputs,
    Limits,
    Standing,
    Wish,
    advance,
    skip_cause,
    wishes,
)

LIMITS = Limits(cap_w=10.0)
CALM = Inputs(temperature_c=50.0, memory_available=0.6)


def follow(readings: list[Inputs], *, step_s: float = 5.0) -> list[tuple[float, Standing]]:
    standing, found = TOP, []
    before: tuple[Wish, ...] = ()
    for n, reading in enumerate(readings):
        before = wishes(reading, LIMITS, before)
        standing = advance(standing, before, n * step_s)
        found.append((n * step_s, standing))
    return found


def rung(reading: Inputs, *, seconds: float = 0.0) -> int:
    """Return where a constant reading leads in so much time."""
    return follow([reading] * (int(seconds / 5) + 1))[-1][1].rung


def test_each_rung_does_less_than_the_one_before() -> None:
    for better, worse in pairwise(RUNGS):
        assert (worse.gate, -worse.fps, -worse.area, -worse.tokens, worse.rests, not worse.works) != (
            better.gate,
            -better.fps,
            -better.area,
            -better.tokens,
            better.rests,
            not better.works,
        )
        assert worse.gate >= better.gate
        assert worse.fps <= better.fps
        assert worse.area <= better.area
        assert worse.tokens <= better.tokens
    assert [rung.fps for rung in RUNGS if rung.works][::3] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Inputs(), 0),  # a machine that says nothing of itself
        (CALM, 0),
        (Inputs(temperature_c=74.9), 0),
        (Inputs(temperature_c=80.0), DEFER),  # the soft limit of a Raspberry Pi
        (Inputs(temperature_c=85.0), SKIP),  # its hard one
        (Inputs(battery_percent=90.0), 0),
        (Inputs(battery_percent=55.0), 2),
        (Inputs(battery_percent=35.0), 4),
        (Inputs(battery_percent=15.0), DEFER),
        (Inputs(battery_percent=9.0), SKIP),
        (Inputs(memory_available=0.02), SKIP),
    ],
)
def test_what_is_critical_is_followed_at_once(reading: Inputs, expected: int) -> None:
    assert rung(reading) == expected


@pytest.mark.parametrize(
    ("reading", "cause"),
    [
        (Inputs(temperature_c=76.0), "heat"),
        (Inputs(throttled=True), "heat"),
        (Inputs(under_voltage=True), "power"),
        (Inputs(power_w=11.0), "power"),
        (Inputs(memory_available=0.08), "memory"),
        (Inputs(memory_stalled=20.0), "memory"),
        (Inputs(late_clips=1.5), "backlog"),
        (Inputs(lost_clips=1), "backlog"),
    ],
)
def test_what_is_too_much_is_answered_step_by_step(reading: Inputs, cause: str) -> None:
    steps = follow([reading] * 200)
    rungs = [standing.rung for _, standing in steps]
    assert rungs[0] == 1
    assert all(after - before in (0, 1) for before, after in pairwise(rungs))
    assert rungs.index(2) * 5 == PRESS_S
    assert rungs[-1] < SKIP  # by itself it never ends the work
    assert steps[-1][1].causes == (cause,)


def test_all_is_won_back_one_rung_after_the_other_when_it_is_calm() -> None:
    rungs = [standing.rung for _, standing in follow([Inputs(temperature_c=86.0)] + [CALM] * 1000)]
    assert sorted(set(rungs), reverse=True) == list(range(SKIP, -1, -1))
    assert rungs[-1] == 0
    assert [rungs.count(n) * 5 for n in range(SKIP - 1, 0, -1)] == [EASE_S] * (SKIP - 1)


def test_what_is_warm_but_not_too_warm_holds_the_rung() -> None:
    hot, warm = Inputs(temperature_c=76.0), Inputs(temperature_c=72.0)
    found = follow([hot] * 30 + [warm] * 1000)
    assert found[-1][1].rung == found[29][1].rung > 0


def test_between_its_limits_a_machine_at_the_hard_limit_is_deferred() -> None:
    found = [s.rung for _, s in follow([Inputs(temperature_c=86.0)] * 3 + [Inputs(temperature_c=81.0)] * 300)]
    assert found[0] == SKIP
    assert found[-1] == DEFER


def test_a_rung_that_does_not_hold_is_tried_later_and_later() -> None:
    """A machine that keeps up on the third rung alone: better ones make its clips late."""
    standing, tried = TOP, []
    before: tuple[Wish, ...] = ()
    for second in range(0, 24 * 3600, 5):
        late = standing.rung < 3 and second - standing.since_s >= 60
        before = wishes(Inputs(late_clips=1.5 if late else 0.0), LIMITS, before)
        after = advance(standing, before, float(second))
        if after.rung < standing.rung == 3:
            tried.append(second)
        standing = after
    waits = [b - a for a, b in pairwise(tried)]
    assert waits == sorted(waits)
    assert 3600 <= waits[-1] <= 3600 + 3 * EASE_S
    assert len(tried) <= 30


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 80),
            st.builds(
                Inputs,
                late_clips=st.sampled_from([0.0, 0.8, 1.5]),
                temperature_c=st.none() | st.floats(20, 100),
                throttled=st.booleans(),
                under_voltage=st.booleans(),
                memory_available=st.none() | st.floats(0, 1),
                memory_stalled=st.none() | st.floats(0, 100),
                battery_percent=st.none() | st.floats(0, 100),
                power_w=st.none() | st.floats(0, 20),
            ),
        ),
        max_size=30,
    )
)
def test_no_series_of_readings_makes_it_sway(spells: list[tuple[int, Inputs]]) -> None:
    found = follow([reading for count, reading in spells for _ in range(count)])
    changes = found[:1] if found and found[0][1].rung else []  # a start at the top is no change
    for (_, before), (second, after) in pairwise(found):
        if after.rung != before.rung:
            changes.append((second, after))
        assert bool(after.rung) == bool(after.causes)  # no rung without a cause
    for (before_s, before), (after_s, after) in pairwise(changes):
        if after.rung < before.rung:
            assert after.rung == before.rung - 1
            assert after_s - before_s >= EASE_S
        elif after.rung <= SHORT and "battery" not in after.causes:
            assert after_s - before_s >= PRESS_S


def test_the_gravest_cause_is_named() -> None:
    found = wishes(Inputs(late_clips=2.0, temperature_c=86.0, battery_percent=50.0), LIMITS)
    assert skip_cause(found, TOP) == "heat"
    assert skip_cause([Wish("heat")], Standing(rung=SKIP, causes=("memory",))) == "memory"
