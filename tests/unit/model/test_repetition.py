"""Answers that go round in circles are noticed, and others are not."""

from __future__ import annotations

import numpy as np
import pytest

from edge.model.repetition import LEAST, LONGEST, ROUNDS, Repetition


def closed_after(tokens: list[int]) -> int | None:
    """Return after how many tokens a circle was noticed."""
    watched = Repetition()
    for count, token in enumerate(tokens, 1):
        watched.take(token)
        if watched.closed:
            return count
    return None


@pytest.mark.parametrize("length", [1, 2, 7, 24, LONGEST])
def test_a_circle_is_noticed_when_its_rounds_are_complete(length: int) -> None:
    opening = list(range(1000, 1005))
    found = closed_after(opening + list(range(length)) * 60)
    assert found == len(opening) + max(ROUNDS * length, LEAST)


def test_two_rounds_and_short_runs_are_none() -> None:
    sentence = list(range(30))
    assert closed_after([*sentence, *sentence, 99]) is None
    assert closed_after([5] * (LEAST - 1)) is None
    assert closed_after([1, 2] * 11 + [3] + [1, 2] * 11) is None


def test_longer_rounds_are_left_alone() -> None:
    assert closed_after(list(range(LONGEST + 1)) * 6) is None


def test_chance_makes_no_circle() -> None:
    assert closed_after(np.random.default_rng(0).integers(0, 10, 20_000).tolist()) is None
