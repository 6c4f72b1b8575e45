"""The course of a training: short clips first, the longest last, and a rate that rises and falls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.demo import schedule


@pytest.mark.parametrize("stage", sorted(schedule.STAGES))
def test_clips_grow_and_the_cells_fade(stage: str) -> None:
    phases = schedule.STAGES[stage]
    assert [each.until for each in phases] == sorted(each.until for each in phases)
    assert phases[-1].until == 1
    longest = [max(each.pairs) for each in phases]
    assert longest == sorted(longest)
    assert [each.cells for each in phases] == sorted((each.cells for each in phases), reverse=True)
    assert phases[0].questions == 0  # seeing first
    assert phases[1].sprites == 1


@given(st.floats(0, 1), st.integers(0, 2**32), st.integers(500, 60_000))
def test_a_step_is_of_its_phase_and_about_its_size(share: float, seed: int, tokens: int) -> None:
    plan = schedule.plan("b", share, np.random.default_rng(seed), cells=12, tokens=tokens)
    assert plan.pairs in schedule.phase("b", share).pairs
    one = plan.pairs * (12 + schedule.TEXT_A_PAIR) + plan.questions * schedule.TOKENS_A_QUESTION
    assert plan.clips == 1 or plan.clips * one <= tokens + one / 2


def test_the_rate_warms_up_and_ends_low() -> None:
    assert schedule.rate(0, 0.0) == pytest.approx(schedule.PEAK / schedule.WARM_UP)
    assert schedule.rate(schedule.WARM_UP, 0.0) == pytest.approx(schedule.PEAK)
    assert schedule.rate(10_000, 1.0) == pytest.approx(schedule.PEAK * schedule.FLOOR)
    assert schedule.rate(10_000, 1.2) == schedule.rate(10_000, 1.0)  # one step more than planned
