"""Choosing tokens, against a plain reference that lists every probability."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge.model.sampling import Sampling, choose, largest
from tests.unit.model import example

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12)


def as_array(logits: list[float]) -> NDArray[np.float32]:
    return np.array(logits, np.float32)


def distribution(logits: dict[int, float], said: list[int], sampling: Sampling) -> dict[int, float]:
    """The probabilities from which a token is drawn, step by step and one token at a time."""
    scores = dict(logits)
    for token in set(said) & scores.keys():
        score = scores[token]
        score = score / sampling.repetition_penalty if score > 0 else score * sampling.repetition_penalty
        scores[token] = score - sampling.presence_penalty
    order = sorted(scores, key=lambda token: (-scores[token], token))
    if sampling.top_k:
        order = order[: sampling.top_k]
    top = scores[order[0]]
    weights = {token: math.exp((scores[token] - top) / sampling.temperature) for token in order}
    total = sum(weights.values())
    kept: dict[int, float] = {}
    reached = 0.0
    for token in order:
        if kept and reached >= sampling.top_p:
            break
        kept[token] = weights[token] / total
        reached += kept[token]
    most = kept[order[0]]
    kept = {token: share for token, share in kept.items() if share >= sampling.min_p * most}
    total = sum(kept.values())
    return {token: share / total for token, share in kept.items()}


@given(LOGITS, st.data())
def test_greedy_takes_the_most_probable_allowed_token(logits: list[float], data: st.DataObject) -> None:
    allowed = sorted(data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1)))
    rng = np.random.default_rng(0)
    token, logprob = choose(as_array(logits)[allowed], np.array(allowed), Sampling.greedy(), [], rng)
    values = as_array(logits).astype(float)
    assert token in allowed
    assert values[token] == max(values[allowed])
    expected = values[token] - math.log(sum(math.exp(values[i]) for i in allowed))
    assert logprob == pytest.approx(min(expected, 0), abs=1e-5)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.5, top_k=3),
    Sampling(temperature=2.0, top_p=0.7),
    Sampling(temperature=1.3, min_p=0.2),
    Sampling(temperature=0.7, top_k=20, top_p=0.8, presence_penalty=1.5),
    Sampling(temperature=0.9, top_k=4, top_p=0.9, min_p=0.05, presence_penalty=0.5, repetition_penalty=1.4),
]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_tokens_are_drawn_as_often_as_the_reference_says(sampling: Sampling) -> None:
    logits = as_array([1.0, 2.5, -0.5, 2.4, 0.3, -3.0, 1.9])
    said, allowed = [1, 1, 5], [0, 1, 2, 3, 5, 6]
    expected = distribution({i: float(logits[i]) for i in allowed}, said, sampling)
    rng = np.random.default_rng(7)
    draws = 4000
    drawn = [choose(logits[allowed], np.array(allowed), sampling, said, rng)[0] for _ in range(draws)]
    for token in range(len(logits)):
        share = expected.get(token, 0.0)
        spread = 5 * math.sqrt(share * (1 - share) / draws)
        assert abs(drawn.count(token) / draws - share) <= spread, token


@given(LOGITS, st.sampled_from(SETTINGS), st.integers(0, 99), st.lists(st.integers(0, 11), max_size=4))
@settings(deadline=None)
def test_no_token_is_drawn_that_the_reference_excludes(
    logits: list[float], sampling: Sampling, seed: int, said: list[int]
) -> None:
    values = as_array(logits)
    token, _ = choose(values, None, sampling, said, np.random.default_rng(seed))
    # A tie at the edge of a filter may fall either way, so equal scores stand for one another.
    possible = distribution(dict(enumerate(values.astype(float))), said, sampling)
    slack = replace(sampling, top_p=min(1.0, sampling.top_p + 1e-6), min_p=max(0.0, sampling.min_p - 1e-6))
    possible |= distribution(dict(enumerate(values.astype(float))), said, slack)
    penalised = set(said) if sampling.presence_penalty or sampling.repetition_penalty != 1 else set()
    alike = {(float(values[i]), i in penalised) for i in possible}
    assert (float(values[token]), token in penalised) in alike


@given(LOGITS, st.sampled_from([Sampling.greedy(), *SETTINGS]), st.integers(0, 99), st.data())
@settings(deadline=None)
def test_what_may_not_be_chosen_counts_for_nothing(
    logits: list[float], sampling: Sampling, seed: int, data: st.DataObject
) -> None:
    """Minus infinity under all ids, and the others' ids alone, are the same."""
    said = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=4))
    allowed = np.array(sorted(data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1))))
    masked = np.full(len(logits), -np.inf, np.float32)
    masked[allowed] = as_array(logits)[allowed]
    all_ids = choose(masked, None, sampling, said, np.random.default_rng(seed))
    few = choose(masked[allowed], allowed, sampling, said, np.random.default_rng(seed))
    assert (all_ids[0] in allowed, all_ids[1]) == (
        True,
        pytest.approx(few[1], abs=1e-5) if all_ids[0] == few[0] else all_ids[1],
    )
    assert masked[all_ids[0]] == masked[few[0]]


def test_a_seed_repeats_the_choice_and_another_changes_it() -> None:
    logits, hot = np.zeros(1000, np.float32), Sampling(temperature=1.0)

    def run(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [choose(logits, None, hot, [], rng)[0] for _ in range(8)]

    assert run(1) == run(1) != run(2)


def test_logits_are_not_changed() -> None:
    logits = np.arange(5, dtype=np.float32)
    choose(logits, None, SETTINGS[-1], [4], np.random.default_rng(0))
    np.testing.assert_array_equal(logits, np.arange(5))


def test_the_recommended_values_are_the_manifests() -> None:
    found = Sampling.recommended(example.manifest().generation)
    assert found == Sampling(temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5)


@settings(deadline=None, max_examples=200)
@given(
    scores=arrays(
        np.float32,
        st.integers(1, 2500),
        elements=st.sampled_from([-np.inf, -3.0, 0.0, 1.5, 1.75, 8.0]) | st.floats(-9, 9, width=32),
    ),
    count=st.integers(1, 40),
)
def test_the_largest_are_found_wherever_they_lie(scores: NDArray[np.float32], count: int) -> None:
    found = largest(scores, count)
    possible = np.sort(scores[scores > -np.inf])[::-1]
    np.testing.assert_array_equal(np.sort(scores[found])[::-1], possible[:count])
    assert (np.diff(found) > 0).all()
