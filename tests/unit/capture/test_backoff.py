"""Waits between tries."""

from __future__ import annotations

import random

from edge.capture.backoff import FIRST_S, LONGEST_S, Backoff


def test_waits_double_with_jitter_up_to_half_a_minute_and_begin_anew_after_success() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s() for _ in range(12)]
    for number, wait in enumerate(waits):
        longest = min(LONGEST_S, FIRST_S * 2**number)
        assert longest / 2 <= wait <= longest
    backoff.reset()
    assert backoff.next_s() <= FIRST_S


def test_two_devices_do_not_try_in_step() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [one.next_s() for _ in range(3)] != [other.next_s() for _ in range(3)]


def test_years_without_a_camera_overflow_nothing() -> None:
    backoff = Backoff(random.Random(1))
    assert max(backoff.next_s() for _ in range(5000)) <= LONGEST_S
