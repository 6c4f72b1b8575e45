"""Clocks that make a usable time of whatever a source claims."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.capture.clip import NS
from edge.capture.clock import BACKWARD_LIMIT_NS, FORWARD_LIMIT_NS, LATE_LIMIT_NS, ArrivalClock, MediaClock

MS = 1_000_000
times = st.one_of(st.none(), st.just(0), st.integers(-(2**62), 2**62), st.integers(0, 100 * NS))


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, FORWARD_LIMIT_NS), max_size=40))
@settings(deadline=None)
def test_a_file_counts_from_its_first_picture_wherever_its_times_begin(start: int, steps: list[int]) -> None:
    clock = MediaClock(40 * MS)
    now = 0
    assert clock.time_ns(start, 0) == 0
    for step in steps:
        now += step
        assert clock.time_ns(start + now, 40 * MS) == now
    assert clock.end_ns == now + 40 * MS


@given(st.lists(st.tuples(times, st.integers(-5, 2**62)), min_size=1))
@settings(deadline=None)
def test_no_claim_of_a_file_throws_the_clock_far(claims: list[tuple[int | None, int]]) -> None:
    clock = MediaClock(40 * MS)
    mapped = [clock.time_ns(pts, duration) for pts, duration in claims]
    assert mapped[0] == 0
    for position, (_, after) in enumerate(pairwise(mapped)):
        newest = max(mapped[: position + 1])
        # The picture before may itself stand for as long as a jump may be.
        assert -BACKWARD_LIMIT_NS <= after - newest <= FORWARD_LIMIT_NS
    assert clock.end_ns > max(mapped)


def test_missing_times_go_on_by_the_pictures_own_duration() -> None:
    clock = MediaClock(40 * MS)
    assert [clock.time_ns(None, duration) for duration in (100 * MS, 0, 0)] == [0, 100 * MS, 140 * MS]
    assert clock.time_ns(7 * NS, 0) == 180 * MS  # the first claim continues what there was
    assert clock.time_ns(8 * NS, 0) == 1180 * MS


def test_a_file_joined_from_parts_goes_on() -> None:
    clock = MediaClock(40 * MS)
    first = [clock.time_ns(pts, 100 * MS) for pts in (50 * NS, 51 * NS)]
    second = [clock.time_ns(pts, 100 * MS) for pts in (2 * NS, 3 * NS)]
    assert first + second == [0, NS, 1100 * MS, 2100 * MS]


def test_a_small_step_back_is_left_to_the_sampler() -> None:
    clock = MediaClock(40 * MS)
    assert [clock.time_ns(pts * MS, 0) for pts in (0, 100, 60, 140)] == [0, 100 * MS, 60 * MS, 140 * MS]


@given(st.lists(st.tuples(times, st.integers(0, 3 * NS)), min_size=1))
@settings(deadline=None)
def test_a_camera_never_shows_the_future_nor_long_past_nor_runs_back(
    claims: list[tuple[int | None, int]],
) -> None:
    clock = ArrivalClock()
    arrival, before = 0, -(10**18)
    for pts, wait in claims:
        arrival += wait
        at = clock.time_ns(pts, arrival)
        assert arrival - LATE_LIMIT_NS <= at <= arrival
        assert at >= before
        before = at


@given(st.lists(st.integers(0, 300 * MS), min_size=50, max_size=100), st.integers(-(10**15), 10**15))
@settings(deadline=None)
def test_network_jitter_is_taken_out_of_a_steady_camera(jitter: list[int], offset: int) -> None:
    """Once pictures have come without delay, all later ones lie on the camera's own rhythm."""
    clock = ArrivalClock()
    jitter[6:11] = [0] * 5  # the network is quick for a moment
    arrival = 0
    for number, delay in enumerate(jitter):
        taken = number * 100 * MS
        arrival = max(arrival, taken + delay)
        at = clock.time_ns(offset + taken, arrival)
        if number >= 10 and arrival == taken + delay:
            # What is left is the drift that is allowed for: 500 ppm of the time since.
            assert 0 <= at - taken <= (arrival - 1000 * MS) * 500 // 1_000_000


def test_a_device_whose_times_stand_still_is_timed_by_arrival() -> None:
    clock = ArrivalClock()
    assert [clock.time_ns(0, at * MS) for at in (5, 140, 260)] == [5 * MS, 140 * MS, 260 * MS]
    assert [clock.time_ns(None, at * MS) for at in (380, 500)] == [380 * MS, 500 * MS]


def test_a_jump_of_the_cameras_times_begins_anew() -> None:
    for jump in (-3600 * NS, 3600 * NS, -(NS // 2)):
        clock = ArrivalClock()
        for number in range(10):
            clock.time_ns(number * 100 * MS, 7 * NS + number * 100 * MS)
        assert clock.time_ns(jump + NS, 8 * NS) == 8 * NS
        assert (
            clock.time_ns(jump + NS + 100 * MS, 8 * NS + 150 * MS) == 8 * NS + 100 * MS + 75_000
        )  # 500 ppm of 150 ms


def test_a_camera_whose_clock_runs_slow_is_followed() -> None:
    clock = ArrivalClock()
    late = 0
    for number in range(36_000):  # an hour at 10 FPS, 200 ppm slow
        arrival = number * 100 * MS
        late = arrival - clock.time_ns(number * 99_980_000, arrival)
    assert late < 20 * MS
