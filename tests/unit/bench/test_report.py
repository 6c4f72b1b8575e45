"""From measured rates to what a clip would take."""

import pytest

from edge.bench.report import Rate, VisionRate, estimate, token_seconds

FLAT = (Rate(depth=0, tokens_per_s=100, slowest=90), Rate(depth=8000, tokens_per_s=100, slowest=90))
GROWING = (  # 10 ms a token at 0, 20 ms at 1,000, 30 ms at 3,000
    Rate(depth=0, tokens_per_s=100, slowest=100),
    Rate(depth=1000, tokens_per_s=50, slowest=50),
    Rate(depth=3000, tokens_per_s=1000 / 30, slowest=30),
)
VISION = VisionRate(width=256, height=192, tokens_per_pair=48, pairs_per_s=20, slowest=19)


def test_a_rate_that_does_not_change_is_a_division() -> None:
    assert token_seconds(FLAT, 0, 5000) == pytest.approx(50)
    assert token_seconds(FLAT[:1], 7000, 5000) == pytest.approx(50)
    assert token_seconds(FLAT, 0, 0) == 0


def test_seconds_per_token_follow_lines_between_the_depths_and_go_on_behind_them() -> None:
    assert token_seconds(GROWING, 0, 1000) == pytest.approx(15, rel=1e-3)
    assert token_seconds(GROWING, 1000, 2000) == pytest.approx(50, rel=1e-3)
    assert token_seconds(GROWING, 0, 3000) == pytest.approx(65, rel=1e-3)
    assert token_seconds(GROWING, 3000, 2000) == pytest.approx(70, rel=1e-3)


def test_a_machine_that_got_faster_by_chance_never_takes_less_than_nothing() -> None:
    odd = (Rate(depth=0, tokens_per_s=50, slowest=50), Rate(depth=100, tokens_per_s=100, slowest=100))
    assert token_seconds(odd, 10_000, 1000) > 0


def test_a_clip_is_the_sum_of_its_parts() -> None:
    clip = estimate(VISION, FLAT, FLAT, seconds=60, pairs=240, tokens=13_000, answers=2, answer_tokens=100)
    assert (clip.vision, clip.text) == (12, 2)
    assert clip.prefill == pytest.approx(130 + 2 * 1.3)
    assert clip.per_second == pytest.approx((12 + 132.6 + 2) / 60, abs=1e-3)
    assert clip.after_end == pytest.approx((12 + 130) / 240 + 1.3 + 1, abs=0.01)


def test_half_the_pairs_take_less_than_half_the_prefill() -> None:
    whole = estimate(VISION, GROWING, FLAT, seconds=60, pairs=240, tokens=12_000)
    half = estimate(VISION, GROWING, FLAT, seconds=60, pairs=120, tokens=6_000)
    assert half.vision == whole.vision / 2
    assert half.prefill < whole.prefill / 2
