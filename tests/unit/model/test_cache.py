"""Keys and values in eight bits: how far off they may be, whatever comes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model.cache import HEADROOM, LARGEST, RoundedRows

HEADS, SIZE, ROWS = 2, 6, 64


def read(cache: RoundedRows, count: int) -> np.ndarray:
    return cache.values[:, :, :count] * cache.scale


def noise(seed: int, count: int, spread: float = 1.0) -> np.ndarray:
    channels = np.geomspace(0.01, 100, SIZE, dtype=np.float32)  # as keys have: some channels are far larger
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, HEADS, count, SIZE), np.float32) * channels * np.float32(spread)


def test_a_value_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    cache, rows = RoundedRows(HEADS, ROWS, SIZE), noise(0, 40)
    cache.write(0, rows)
    step = np.abs(rows).max(axis=2, keepdims=True) * HEADROOM / LARGEST
    assert (np.abs(read(cache, 40) - rows) <= 0.51 * step).all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.floats(1e-3, 1e3), st.integers(0, 99)), min_size=1, max_size=5)
)
def test_however_values_grow_the_rows_before_stay_what_they_were(
    parts: list[tuple[int, float, int]],
) -> None:
    cache, written, at = RoundedRows(HEADS, ROWS, SIZE), [], 0
    for count, spread, seed in parts:
        rows = noise(seed, count, spread)
        cache.write(at, rows)
        written.append(rows)
        at += count
    expected = np.concatenate(written, axis=2)
    # Each widening rounds once more, and the steps before were smaller: twice the last step bounds their sum.
    step = np.abs(expected).max(axis=2, keepdims=True) * HEADROOM / LARGEST
    assert (np.abs(read(cache, at) - expected) <= 1.1 * step).all()
    assert (np.abs(cache.values.astype(int)) <= LARGEST).all()


def test_smaller_values_leave_scale_and_rows_alone() -> None:
    cache = RoundedRows(HEADS, ROWS, SIZE)
    cache.write(0, noise(0, 20))
    scale, before = cache.scale.copy(), cache.values[:, :, :20].copy()
    cache.write(20, noise(1, 20, 0.2))
    np.testing.assert_array_equal(cache.scale, scale)
    np.testing.assert_array_equal(cache.values[:, :, :20], before)


def test_who_goes_back_finds_rows_and_scales_bit_for_bit() -> None:
    cache = RoundedRows(HEADS, ROWS, SIZE)
    cache.write(0, noise(0, 20))
    states = []
    for at, spread in ((20, 3.0), (30, 9.0)):
        states.append((cache.point(), at, cache.scale.copy(), cache.values[:, :, :at].copy()))
        cache.write(at, noise(at, 10, spread))
    cache.write(40, noise(7, 10, 30.0))
    for point, at, scale, values in reversed(states):
        assert cache.go_back(point)
        np.testing.assert_array_equal(cache.scale, scale)
        np.testing.assert_array_equal(cache.values[:, :, :at], values)
        assert not cache.go_back(point)  # it is there already


def test_arrays_that_a_session_is_bound_to_stay_the_same_memory() -> None:
    cache = RoundedRows(HEADS, ROWS, SIZE)
    values, scale = cache.values, cache.scale
    for at in range(4):
        cache.write(at, noise(at, 1, 10.0**at))
    assert cache.values is values
    assert cache.scale is scale


def test_a_channel_that_is_always_zero_stays_zero() -> None:
    cache = RoundedRows(HEADS, ROWS, SIZE)
    rows = noise(0, 10)
    rows[..., 2] = 0
    cache.write(0, rows)
    assert np.isfinite(read(cache, 10)).all()
    assert not read(cache, 10)[..., 2].any()
