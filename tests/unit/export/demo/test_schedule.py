"""The course of a training: seeing first, the longest clips last, on when a phase is mastered, and a rate that falls."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo.world import Stage
from edge.demo.world.couple import COUPLE_S
from export.demo import schedule
from export.demo.labels import FPS, FRAME
from export.demo.schedule import Course, Phase, Syllabus

FIRST = Phase("named", 0.8, 0.5, (2,), 1, 0, 0.0, 1, seeing=True)
SECOND = Phase("exact", 0.9, 1.0, (4,), None, 2, 0.5, 2)

BLOCK = 10


def course_of(*phases: Phase) -> Course:
    return Course(Syllabus(phases, BLOCK))


def taught(course: Course, steps: int, named: float, share: float, first: int = 0) -> None:
    for step in range(first, first + steps):
        course.note(step, {"named": named, "exact": math.nan}, share)


@pytest.mark.parametrize("stage", sorted(schedule.SYLLABI))
def test_seeing_comes_first_and_clips_grow(stage: str) -> None:
    phases = schedule.SYLLABI[stage].phases
    assert [each.until for each in phases] == sorted(each.until for each in phases)
    assert phases[-1].until == 1
    assert [each.seeing for each in phases] == [True] + [False] * (len(phases) - 1)
    longest = [max(each.pairs) for each in phases[1:]]
    assert longest == sorted(longest)
    assert [each.full for each in phases] == sorted(each.full for each in phases)
    assert phases[1].questions == 0 < phases[2].questions  # follows what happens before it tells


def test_a_phase_is_left_when_it_is_mastered_and_not_before() -> None:
    course = course_of(FIRST, SECOND)
    taught(course, 2 * BLOCK, named=0.79, share=0.1)
    assert course.levels == [0, 0, 0, 0]
    taught(course, BLOCK, named=0.81, share=0.1, first=2 * BLOCK)
    assert course.levels == [0, 0, 0, 0, 1]
    taught(course, 2 * BLOCK, named=0.81, share=0.1, first=3 * BLOCK)
    assert course.levels[-1] == 1  # there is none behind the last


def test_a_phase_is_left_when_its_share_is_used_up() -> None:
    course = course_of(FIRST, SECOND)
    taught(course, BLOCK, named=math.nan, share=0.5)
    assert course.levels == [0, 0, 1]


def test_the_phase_is_known_a_block_ahead() -> None:
    course = course_of(FIRST, SECOND)
    for step in range(4 * BLOCK):
        assert course.phase(step + BLOCK) in (FIRST, SECOND)
        course.note(step, {"named": 0.9, "exact": 0.0}, 0.0)


def test_marks_of_the_phase_before_do_not_master_the_next() -> None:
    course = course_of(FIRST, FIRST, SECOND)
    taught(course, 2 * BLOCK, named=0.9, share=0.1)
    assert course.levels == [0, 0, 1, 1]


@given(st.integers(0, 2**32), st.integers(500, 60_000))
def test_a_batch_is_of_its_phase_and_about_its_size(seed: int, tokens: int) -> None:
    for phase in schedule.SYLLABI["b"].phases:
        plan = schedule.plan(phase, np.random.default_rng(seed), stage="b", tokens=tokens)
        assert plan.pairs in ((schedule.CROWD_PAIRS,) if plan.crowd else phase.pairs)
        asked = schedule.CROWD_QUESTIONS if plan.crowd else phase.questions
        one = (
            plan.pairs * (schedule.cells_of(FRAME) + schedule.TEXT_A_PAIR)
            + asked * schedule.TOKENS_A_QUESTION
        )
        assert plan.clips == 1 or plan.clips * one <= tokens + one / 2


def test_what_goes_through_the_gate_is_longer() -> None:
    last = schedule.SYLLABI["b"].phases[-1]
    rng = np.random.default_rng(0)
    plans = [schedule.plan(last, rng, stage="b", tokens=2_560) for _ in range(5_000)]
    crowds = [each for each in plans if each.crowd]
    gated, whole = (
        [each.pairs for each in plans if not each.crowd and each.gated is gate] for gate in (True, False)
    )
    assert np.mean(gated) > 1.3 * np.mean(whole)
    assert set(whole) == set(last.pairs) > set(gated) >= {16, 240}
    assert np.mean(np.array(gated) >= 128) > 0.25
    assert len(gated) / len(plans) == pytest.approx(last.gated, abs=0.05)
    assert len(crowds) / len(plans) == pytest.approx((1 - last.gated) * last.crowds, abs=0.05)
    assert not any(each.gated for each in crowds)
    assert np.mean([each.still for each in crowds]) == pytest.approx(last.stills, abs=0.05)


def test_nothing_but_the_last_phase_is_left_for_weights_that_are_taught_already() -> None:
    whole = schedule.SYLLABI["b"]
    last = schedule.last_phase(whole)
    assert last.phases == whole.phases[-1:]
    assert last.block == whole.block


def test_what_was_taught_before_stage_c_is_rehearsed_at_its_end() -> None:
    rng = np.random.default_rng(0)
    stages: tuple[Stage, ...] = ("a", "b", "c")
    for stage in stages:
        last = schedule.SYLLABI[stage].phases[-1]
        drawn = Counter(schedule.plan(last, rng, stage=stage, tokens=2_560).stage for _ in range(2_000))
        assert set(drawn) == ({"b", "c"} if stage == "c" else {stage})
        assert drawn[stage] / 2_000 == pytest.approx(1 - last.rehearsed, abs=0.05)


def test_most_clips_of_stage_c_have_room_for_what_two_do_together() -> None:
    lengths = schedule.SYLLABI["c"].phases[-1].pairs
    assert sum(2 * pairs / FPS >= COUPLE_S for pairs in lengths) >= 2 / 3 * len(lengths)


def test_the_heads_weigh_little_at_the_end() -> None:
    aids = [phase.aids for phase in schedule.SYLLABI["b"].phases]
    assert aids == sorted(aids, reverse=True)
    assert aids[0] == 1
    assert aids[-1] < 0.1


def test_the_rate_warms_up_stays_and_ends_low() -> None:
    assert schedule.rate(0, 0.0) == pytest.approx(1 / schedule.WARM_UP)
    assert schedule.rate(schedule.WARM_UP, 0.0) == schedule.rate(9_999, 1 - schedule.DECAY) == 1
    assert schedule.rate(10_000, 1.0) == pytest.approx(schedule.FLOOR)
    assert schedule.rate(10_000, 1.2) == schedule.rate(10_000, 1.0)  # one step more than planned
