"""Pauses between attempts grow, end growing, and differ from device to device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.deliver.mqtt import Backoff


@given(st.integers(0, 10_000))
def test_a_pause_lies_between_half_and_the_whole_of_the_doubled_step(attempt: int) -> None:
    whole = min(60.0, 2.0 ** min(attempt, 100))
    assert whole / 2 <= Backoff(1.0, 60.0).pause_s(attempt) <= whole


def test_a_fleet_does_not_come_back_in_step() -> None:
    assert len({Backoff().pause_s(6) for _ in range(50)}) > 40
